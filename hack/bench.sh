#!/bin/bash
# bench.sh ACT... measures what the sensor costs. The acts are make targets; the
# workflows do nothing else.
#
#   ladder [REGEXP]        Go benchmarks, all or some, RUNS times in turns, for benchstat
#   report                 measures what docs/performance.md shows, and writes it there
#   compare [BASE]         builds a commit and this checkout, runs both interleaved, judges
#   verdict RESULTS        judges results again and writes the comment, with the trend
#   baseline RESULTS       adds results to the trend
#   fetch-trend            takes the trend from the branch bench-baseline, if there is one
#   push-trend             puts it there
#   comment REPO SHA       posts the comment at the pull request of a commit, or updates it
#
# OUT is where results, trend and comment are (bin/bench); FLAGS are sonde-bench's own.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh
OUT=${OUT:-bin/bench}
RESULTS=$OUT/results.json TREND=$OUT/trend.json COMMENT=$OUT/comment.md
mkdir -p "$OUT"

build() { # build PACKAGE FILE
	CGO_ENABLED=0 go build -trimpath -o "$2" "$1"
}

tool() { # tool ARGS... runs sonde-bench
	build ./bench/sonde-bench "$OUT/sonde-bench"
	"$OUT/sonde-bench" "$@"
}

# ladder runs everything once and then once more, so that what disturbs the machine for a
# while disturbs all alike: one value a run.
ladder() {
	local package name packages only=${1:-.}
	packages=$(grep -rlE --include=*_test.go "^func Benchmark.*($only)" . | xargs -n1 dirname | sort -u)
	for package in $packages; do
		go test -c -o "$OUT/$(tr / _ <<<"${package#./}").test" "$package"
	done
	for _ in $(seq "${RUNS:-5}"); do
		for package in $packages; do
			name=$(realpath "$OUT")/$(tr / _ <<<"${package#./}").test
			(cd "$package" && "$OLDPWD/hack/as-root.sh" "$name" -test.run '^$' -test.bench "$only" -test.benchmem -test.benchtime "${BENCHTIME:-200ms}")
		done
	done
}

compare() {
	local base=${1:-} tree status=0
	[ -n "$base" ] || base=$(git rev-parse --verify -q origin/main || git rev-parse --verify main)
	tree=$(mktemp -d)
	# shellcheck disable=SC2064 # the directory of now
	trap "git worktree remove --force '$tree'" EXIT
	git worktree add -q --detach "$tree" "$base"
	(cd "$tree" && CGO_ENABLED=0 go build -trimpath -o "$OLDPWD/$OUT/base" ./cmd/sonde)
	build ./cmd/sonde "$OUT/head"
	build ./bench/sonde-bench "$OUT/sonde-bench"
	# shellcheck disable=SC2086 # FLAGS is a list
	hack/as-root.sh "$OUT/sonde-bench" run ${FLAGS:-} --revision "$(git rev-parse --short HEAD)" \
		--build "base=$OUT/base" --build "head=$OUT/head" -o "$RESULTS"
	verdict "$RESULTS" || status=$?
	return "$status"
}

verdict() { tool compare "$1" --markdown "$COMMENT" --trend "$TREND"; }

baseline() { tool trend "$1" "$TREND"; }

# report takes rates that every machine with two cores holds.
report() {
	local load loads=()
	for load in idle {processes@,churn@}{50,200,800} syscalls@{10000,100000} opens@{1000,10000} connections; do
		loads+=(--workload "$load")
	done
	ladder 'Ladder|ScrapeSize|State|Memory|CPUs' >"$OUT/ladder.txt"
	build ./cmd/sonde "$OUT/head"
	build ./bench/sonde-bench "$OUT/sonde-bench"
	# shellcheck disable=SC2086 # FLAGS is a list
	hack/as-root.sh "$OUT/sonde-bench" run "${loads[@]}" --runs 3 --duration 5s ${FLAGS:-} --build "head=$OUT/head" -o "$OUT/loads.json"
	tool report "$OUT/ladder.txt" "$OUT/loads.json" docs/performance.md
}

branch=bench-baseline

fetch_trend() {
	if git fetch -q origin "$branch"; then
		git show FETCH_HEAD:trend.json >"$TREND"
	else
		say "there is no branch $branch: no trend yet"
	fi
}

# push_trend makes the branch's one commit anew: what it was before is of no use.
push_trend() {
	local blob tree commit
	blob=$(git hash-object -w "$TREND")
	tree=$(printf '100644 blob %s\ttrend.json\n' "$blob" | git mktree)
	commit=$(git -c user.name=sonde-bench -c user.email=sonde-bench@users.noreply.github.com commit-tree -m 'bench: keep the latest results of main' "$tree")
	git push -q --force origin "$commit:refs/heads/$branch"
}

comment() { # comment REPO SHA
	local number id
	number=$(gh api "repos/$1/commits/$2/pulls" --jq '[.[] | select(.state == "open")][0].number // empty')
	[ -n "$number" ] || die "no open pull request has commit $2"
	id=$(gh api --paginate "repos/$1/issues/$number/comments" --jq '.[] | select(.user.type == "Bot" and (.body | startswith("<!-- sonde-bench -->"))) | .id' | head -1)
	if [ -n "$id" ]; then
		gh api -X PATCH "repos/$1/issues/comments/$id" -F "body=@$COMMENT" >/dev/null
	else
		gh api -X POST "repos/$1/issues/$number/comments" -F "body=@$COMMENT" >/dev/null
	fi
}

case ${1:-} in
ladder | report | compare | verdict | baseline | comment) "$@" ;;
fetch-trend) fetch_trend ;;
push-trend) push_trend ;;
*) die "bench.sh: no act '${1:-}': see the file" ;;
esac
