package container

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// drawn returns an id as a runtime would draw it.
func drawn(n int) ID { return ID{Name: fmt.Sprintf("%064x", n)} }

func dockerRef(n int) Ref { return Ref{ID: drawn(n), Runtime: Docker} }

// newLookups returns a directory whose containers are looked up at a Docker that
// answers with inspect.
func newLookups(t *testing.T, max int, inspect http.HandlerFunc) *lookups {
	t.Helper()
	s := newService(Docker, serveHTTP(t, inspect), 10*time.Second)
	t.Cleanup(s.close)
	s.check(t.Context())
	l := &lookups{services: []*service{s}, believed: time.Hour, queue: make(chan ID, max), observers: map[int]func(Meta, State){}}
	l.directory = newDirectory(max, l.push, func(Meta, bool) {})
	return l
}

// work runs the lookups until the test ends.
func work(t *testing.T, l *lookups) {
	t.Helper()
	var wait sync.WaitGroup
	wait.Go(func() { l.run(t.Context()) })
	t.Cleanup(wait.Wait)
}

func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func found(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, `{"Name":"/web","Config":{"Image":"nginx:1","Labels":null}}`)
}

// TestSingleFlight: however many ask, the runtime is asked once, and nobody waits.
func TestSingleFlight(t *testing.T) {
	var calls atomic.Int32
	release := make(chan struct{})
	l := newLookups(t, 16, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		<-release
		found(w, r)
	})
	work(t, l)
	begin := time.Now()
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			l.directory.see(dockerRef(1), "/docker/1", time.Now())
			if _, state := l.directory.lookup(drawn(1)); state != Pending {
				t.Errorf("state %v while the runtime is thinking", state)
			}
		})
	}
	wait.Wait()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("%v for lookups that must not wait", took)
	}
	close(release)
	until(t, "it has a name", func() bool { _, state := l.directory.lookup(drawn(1)); return state == Named })
	m, _ := l.directory.lookup(drawn(1))
	if m.Name != "web" || m.Image != "nginx:1" || m.Runtime != Docker || m.Cgroup != "/docker/1" || calls.Load() != 1 {
		t.Errorf("%+v after %d calls", m, calls.Load())
	}
	if hits := l.directory.results[Docker][Hit].Load(); hits < 2 {
		t.Errorf("%d hits", hits)
	}
	if misses := l.directory.results[Docker][Miss].Load(); misses < 50 {
		t.Errorf("%d misses", misses)
	}
}

// TestNotFound: "no such container" is believed after a few attempts, for a while.
func TestNotFound(t *testing.T) {
	var calls atomic.Int32
	l := newLookups(t, 16, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusNotFound)
	})
	told := make(chan State, 16)
	cancel := l.subscribe(func(_ Meta, s State) { told <- s })
	defer cancel()
	work(t, l)
	l.directory.see(dockerRef(1), "/docker/1", time.Now())
	until(t, "it is nameless", func() bool { return l.directory.state(drawn(1)) == Nameless })
	if n := calls.Load(); n != notFoundAttempts {
		t.Errorf("%d calls, want %d", n, notFoundAttempts)
	}
	if s := <-told; s != Nameless || len(told) != 0 {
		t.Errorf("subscribers heard %v and %d more", s, len(told))
	}
	if ids := l.directory.due(time.Now(), false); ids != nil {
		t.Errorf("%v is due at once", ids)
	}
	if ids := l.directory.due(time.Now().Add(2*l.believed), false); len(ids) != 1 {
		t.Errorf("%d are due later", len(ids))
	}
	if n := l.services[0].results[NotFound].Load(); n != notFoundAttempts {
		t.Errorf("%d counted", n)
	}
}

// TestRetry: an error and a silence are tried again until there is an answer.
func TestRetry(t *testing.T) {
	var calls atomic.Int32
	l := newLookups(t, 16, func(w http.ResponseWriter, r *http.Request) {
		switch calls.Add(1) {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2:
			<-r.Context().Done()
		default:
			found(w, r)
		}
	})
	l.services[0].deadline = time.Second
	var told []State
	var mu sync.Mutex
	l.subscribe(func(m Meta, s State) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, s)
		if s == Failed && m.Fault == "" {
			t.Error("failed without a word")
		}
	})
	work(t, l)
	l.directory.see(dockerRef(1), "/docker/1", time.Now())
	until(t, "it has a name", func() bool { return l.directory.state(drawn(1)) == Named })
	results := &l.services[0].results
	if results[Error].Load() != 1 || results[TimedOut].Load() != 1 || results[Found].Load() != 1 {
		t.Errorf("%d errors, %d timeouts, %d found", results[Error].Load(), results[TimedOut].Load(), results[Found].Load())
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(told, []State{Failed, Failed, Named}) {
		t.Errorf("subscribers heard %v", told)
	}
}

// TestPause: doubling, never more than half as long again as the limit, never 0.
func TestPause(t *testing.T) {
	for n := 1; n < 100; n++ {
		full := min(firstBackoff<<min(n-1, 10), lastBackoff)
		if got := pause(n); got < full/2 || got > full*3/2 {
			t.Errorf("attempt %d: %v, want about %v", n, got, full)
		}
	}
}

// TestBound: the directory never holds more than its limit, and gives up the
// containers that are missed least.
func TestBound(t *testing.T) {
	l := newLookups(t, 16, found)
	now := time.Now()
	for n := range 8 {
		l.directory.see(dockerRef(n), "/", now)
	}
	l.directory.sweep(map[ID]bool{drawn(4): true, drawn(5): true, drawn(6): true, drawn(7): true}, now, now.Add(-time.Hour))
	for n := 100; n < 112; n++ {
		l.directory.see(dockerRef(n), "/", now)
	}
	_, stats := l.directory.count()
	if stats != (CacheStats{Entries: 16, Max: 16, Evictions: 4}) {
		t.Errorf("%+v", stats)
	}
	for n := range 8 {
		if _, state := l.directory.lookup(drawn(n)); (state == Unheard) != (n < 4) {
			t.Errorf("container %d is %v: those that had ended go first", n, state)
		}
	}
	for n := 200; n < 1000; n++ {
		l.directory.see(dockerRef(n), "/", now.Add(time.Duration(n)))
	}
	if _, stats := l.directory.count(); stats.Entries != 16 || len(l.queue) > 16 {
		t.Errorf("%+v, %d queued", stats, len(l.queue))
	}
}

// TestEnded: an ended container is remembered for a while, and comes back to life
// if its cgroup does.
func TestEnded(t *testing.T) {
	l := newLookups(t, 16, found)
	work(t, l)
	now := time.Now()
	l.directory.see(dockerRef(1), "/docker/1", now)
	until(t, "it has a name", func() bool { return l.directory.state(drawn(1)) == Named })
	l.directory.sweep(map[ID]bool{}, now, now.Add(-time.Minute))
	if m, state := l.directory.lookup(drawn(1)); state != Named || m.Name != "web" || !m.Ended.Equal(now) {
		t.Errorf("after its end: %+v, %v", m, state)
	}
	if counts, _ := l.directory.count(); counts != [Runtimes]int{} {
		t.Errorf("%v live", counts)
	}
	l.directory.see(dockerRef(1), "/docker/1", now)
	if m, _ := l.directory.lookup(drawn(1)); !m.Ended.IsZero() {
		t.Error("it is back and counts as ended")
	}
	l.directory.sweep(map[ID]bool{}, now, now.Add(-time.Minute))
	l.directory.sweep(map[ID]bool{}, now, now.Add(time.Minute))
	if _, state := l.directory.lookup(drawn(1)); state != Unheard {
		t.Errorf("%v after its time", state)
	}
}

// TestGuess: what may be anybody's directory is a container only if containerd says
// so, and costs nothing where there is no containerd.
func TestGuess(t *testing.T) {
	l := newLookups(t, 16, found) // a Docker only
	containerd := newService(Containerd, "", time.Second)
	containerd.paths = nil
	containerd.check(t.Context())
	l.services = append(l.services, containerd)
	work(t, l)
	ref, _ := Parse("/process_api/97a3da46")
	l.directory.see(ref, "/process_api/97a3da46", time.Now())
	until(t, "it is nameless", func() bool { return l.directory.state(ref.ID) == Nameless })
	if all := l.directory.all(); len(all) != 0 {
		t.Errorf("listed: %+v", all)
	}
	if counts, _ := l.directory.count(); counts != [Runtimes]int{} {
		t.Errorf("counted: %v", counts)
	}
}

// TestUnknownRuntime: a bare id is asked about everywhere, and who knows it has it.
func TestUnknownRuntime(t *testing.T) {
	l := newLookups(t, 16, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotFound) })
	podman := newService(Podman, serveHTTP(t, found), 10*time.Second)
	t.Cleanup(podman.close)
	podman.check(t.Context())
	l.services = append(l.services, podman)
	work(t, l)
	ref, ok := Parse("/kubepods/pod11111111-2222-3333-4444-555555555555/" + strings.Repeat("0a", 32))
	if !ok || ref.Runtime != Unknown {
		t.Fatalf("%+v", ref)
	}
	l.directory.see(ref, "/x", time.Now())
	until(t, "it has a name", func() bool { return l.directory.state(ref.ID) == Named })
	m, _ := l.directory.lookup(ref.ID)
	if m.Runtime != Podman || m.Name != "web" || m.PodUID != "11111111-2222-3333-4444-555555555555" {
		t.Errorf("%+v", m)
	}
}

// TestBeginningsAndEnds: a container that was there before is no news, others are told
// once each way; a guess is one when its runtime has confirmed it.
func TestBeginningsAndEnds(t *testing.T) {
	l := newLookups(t, 16, found)
	var told []string
	l.directory.changed = func(m Meta, began bool) { told = append(told, fmt.Sprint(m.ID == drawn(1), m.ID == drawn(2), began)) }
	now := time.Now()
	see := func(ref Ref) { l.directory.see(ref, "/a", now) }
	sweep := func(alive ...ID) {
		all := map[ID]bool{}
		for _, id := range alive {
			all[id] = true
		}
		l.directory.sweep(all, now, now.Add(-time.Hour))
	}
	expect := func(what string, want ...string) {
		t.Helper()
		if !slices.Equal(told, want) {
			t.Errorf("%s: told %q, want %q", what, told, want)
		}
		told = nil
	}
	see(dockerRef(1))
	l.directory.begun.Store(true)
	see(dockerRef(1))
	expect("there before")
	guess := Ref{ID: drawn(2), Guess: true}
	see(guess)
	expect("a guess")
	l.one(t.Context(), drawn(2))
	l.one(t.Context(), drawn(2))
	expect("confirmed", "false true true")
	sweep(drawn(2))
	sweep(drawn(2))
	expect("ended", "true false false")
	see(dockerRef(1))
	see(dockerRef(1))
	expect("back", "true false true")
}

// TestWait: somebody waits for a name as long as there may be one in time, and what came
// too late is counted once.
func TestWait(t *testing.T) {
	answer := make(chan struct{})
	l := newLookups(t, 16, func(w http.ResponseWriter, r *http.Request) {
		<-answer
		found(w, r)
	})
	d, seen := l.directory, time.Now()
	wait := func(after time.Duration) time.Duration { return d.wait(drawn(1), time.Second, seen.Add(after)) }
	if left := wait(0); left != 0 {
		t.Errorf("%v for one that nobody has heard of", left)
	}
	d.see(dockerRef(1), "/docker/1", seen)
	if left := wait(time.Minute); left != time.Second {
		t.Errorf("%v before anybody was asked", left)
	}
	d.serve(seen.Add(500 * time.Millisecond))
	if left := wait(700 * time.Millisecond); left != 800*time.Millisecond {
		t.Errorf("%v of a second since it could be asked about", left)
	}
	if late := d.results[Docker][Late].Load(); late != 0 {
		t.Errorf("%d late in time", late)
	}
	for range 2 {
		if left := wait(1500 * time.Millisecond); left != 0 {
			t.Errorf("%v after the time was up", left)
		}
	}
	if late := d.results[Docker][Late].Load(); late != 1 {
		t.Errorf("%d late, want 1", late)
	}
	work(t, l)
	close(answer)
	d.see(dockerRef(2), "/docker/2", time.Now())
	until(t, "it has a name", func() bool { return d.state(drawn(2)) == Named })
	if left := d.wait(drawn(2), time.Hour, time.Now()); left != 0 {
		t.Errorf("%v for one that has its name", left)
	}
}
