// load.c makes TCP connections within a network namespace of its own.
//
//	load hold N      opens N connections, says "held N", and keeps them until its input ends
//	load churn R N   opens and closes N connections, R a second if it can, and says
//	                 "churned N in MS ms"
//
// Several processes share the work, each with both ends of its connections and an
// address of its own in 203.0.113.0/24, which is on loopback here.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HELD_EACH = 9900, CHURNERS = 2, PORT = 7 };

static void die(const char *act)
{
	perror(act);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static struct sockaddr_in address(int worker)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT) };

	a.sin_addr.s_addr = htonl(0xcb007101 + worker);
	return a;
}

// network makes the namespace. An address on loopback brings its whole network.
static void network(void)
{
	struct ifreq r = {};
	struct sockaddr_in a = address(0);
	int fd;

	if (unshare(CLONE_NEWNET))
		die("make network namespace");
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	strcpy(r.ifr_name, "lo");
	r.ifr_flags = IFF_UP | IFF_LOOPBACK;
	if (ioctl(fd, SIOCSIFFLAGS, &r))
		die("bring up loopback");
	strcpy(r.ifr_name, "lo:1");
	memcpy(&r.ifr_addr, &a, sizeof(a));
	if (ioctl(fd, SIOCSIFADDR, &r))
		die("add address");
	close(fd);
}

static int listener(int worker)
{
	struct sockaddr_in a = address(worker);
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 128))
		die("listen");
	return fd;
}

// connection opens one; the ends are its own to close.
static void connection(int worker, int listener, int ends[2])
{
	struct sockaddr_in a = address(worker);

	ends[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (ends[0] < 0 || connect(ends[0], (struct sockaddr *)&a, sizeof(a)))
		die("connect");
	ends[1] = accept(listener, NULL, NULL);
	if (ends[1] < 0)
		die("accept");
}

static void hold(int worker, int n, int ready)
{
	int l = listener(worker), ends[2];
	char end;

	for (int i = 0; i < n; i++)
		connection(worker, l, ends);
	if (write(ready, "", 1) != 1)
		die("tell");
	while (read(0, &end, 1) > 0)
		;
	exit(0);
}

// churn ends connections by a reset, which leaves no port in TIME_WAIT.
static void churn(int worker, int n, double rate)
{
	struct linger reset = { .l_onoff = 1 };
	int l = listener(worker), ends[2];
	double begin = now(), early;

	for (int i = 0; i < n; i++) {
		connection(worker, l, ends);
		setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		close(ends[0]);
		close(ends[1]);
		early = begin + i / rate - now();
		if (early > 0.001)
			usleep(early * 1e6);
	}
	exit(0);
}

static void wait_all(void)
{
	int status;

	while (wait(&status) > 0)
		if (status) {
			fprintf(stderr, "a worker failed\n");
			exit(1);
		}
}

int main(int argc, char **argv)
{
	struct rlimit files = { 20000, 20000 };
	int n = argc > 2 ? atoi(argv[argc - 1]) : 0, workers, ready[2];
	double begin;
	char one;

	if (n <= 0) {
		fprintf(stderr, "usage: load hold N | load churn R N\n");
		return 2;
	}
	if (setrlimit(RLIMIT_NOFILE, &files) || pipe(ready))
		die("prepare");
	network();
	begin = now();
	if (!strcmp(argv[1], "hold")) {
		workers = (n + HELD_EACH - 1) / HELD_EACH;
		for (int w = 0; w < workers; w++)
			if (!fork())
				hold(w, n * (w + 1L) / workers - n * (long)w / workers, ready[1]);
		for (int w = 0; w < workers; w++)
			if (read(ready[0], &one, 1) != 1)
				die("wait");
		printf("held %d\n", n);
		fflush(stdout);
		wait_all();
		return 0;
	}
	for (int w = 0; w < CHURNERS; w++)
		if (!fork())
			churn(w, n / CHURNERS, atof(argv[2]) / CHURNERS);
	wait_all();
	printf("churned %d in %.0f ms\n", n / CHURNERS * CHURNERS, (now() - begin) * 1e3);
	return 0;
}
