#!/bin/bash
# lint.sh checks what needs no run of the program: layout of Go and C, go vet,
# and the linters of .golangci.yml. It changes no file.
set -euo pipefail
cd "$(dirname "$0")/.."
. hack/env.sh
hack/need.sh certificates format

# All checks run, so that one round of mending is enough.
verdict=0
complain() {
	say "$*"
	verdict=1
}

unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || complain "gofmt would change" $unformatted "(make fmt)"

c_sources | xargs -r clang-format-16 --dry-run --Werror || complain "clang-format-16 would change the C (make fmt)"
for script in hack/*.sh .ci/run; do
	bash -n "$script" || complain "$script is no bash"
done

go vet ./internal/vmtest/testdata/guest || complain "go vet found faults" # of all else the linter vets
CGO_ENABLED=0 GOARCH=arm64 go build ./... || complain "it does not build for arm64"
linter=$(hack/tool.sh golangci-lint)
"$linter" run ./... || complain "golangci-lint found faults"
exit $verdict
