#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Description: the runner calls a pass a pass, and nothing else; it ends what hangs, and what is left behind.
run=$(realpath "$(dirname "$0")/run")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
cases=0 failures=0

# try VERDICT WORDS NAME: a program of the lines on stdin gets VERDICT, and a report with WORDS in it
try() {
	{ echo '#!/bin/bash'; cat; } >program
	chmod +x program
	rm -f tally
	"$run" -c config -t 1 -o tally WORD=x ./program >said 2>&1
	local status=$? wanted
	case $1 in
	pass) wanted="1 passed, 0 failed, 0 skipped 0" ;;
	fail) wanted="0 passed, 1 failed, 0 skipped 1" ;;
	skip) wanted="0 passed, 0 failed, 1 skipped 0" ;;
	esac
	cases=$((cases + 1))
	if [[ $(<tally) == "$1 config program" && "$(tail -n 1 said) $status" == "$wanted" ]] && grep -qF -- "$2" said; then
		echo "ok $cases - $3"
	else
		echo "not ok $cases - $3"
		sed 's/^/# /' said
		failures=$((failures + 1))
	fi
}

try pass '2 cases, 1 of them skipped: no time' "a pass" <<<'echo "ok 1 - a"; echo "ok 2 - b # SKIP no time"; echo 1..2'
# shellcheck disable=SC2016 # for the program to expand
try pass '1 cases' "variables reach the program" <<<'echo "ok 1 - $WORD"; echo 1..1; [[ $WORD == x ]]'
try skip 'no disk' "a skip" <<<'echo "ok 1 - a # SKIP no disk"; echo 1..1; exit 4'
try skip 'no root' "a skip of everything" <<<'echo "1..0 # SKIP no root"; exit 4'
try fail '1 of 1 cases failed' "a failure" <<<'echo "not ok 1 - a"; echo 1..1; exit 1'
try fail '1 of 1 cases failed' "a failure with exit status 0" <<<'echo "not ok 1 - a"; echo 1..1'
try fail '1 of 2 cases failed' "a failure that says skip" <<<'echo "not ok 1 - a"; echo "ok 2 - b # SKIP"; echo 1..2; exit 4'
try fail 'status 3' "another exit status" <<<'echo "ok 1 - a"; echo 1..1; exit 3'
try fail 'no plan' "no plan" <<<'echo "ok 1 - a"'
try fail 'no plan' "no output" <<<''
try fail '2 cases planned, 1 seen' "a case too few" <<<'echo "ok 1 - a"; echo 1..2'
try fail 'SIGSEGV' "a crash" <<<'echo "ok 1 - a"; echo 1..1; kill -SEGV $$'
try fail 'did not end within 1 s' "a hang" <<<'echo hello; sleep 100'
try fail "sanitizer's report" "a report of TSan" <<<'echo "WARNING: ThreadSanitizer: data race"; echo "ok 1 - a"; echo 1..1'
try fail "sanitizer's report" "a report of UBSan" <<<'echo "a.c:1:2: runtime error: overflow"; echo "ok 1 - a"; echo 1..1'
try pass '1 cases' "a child left behind" <<<'sleep 100 & echo $! >child; echo "ok 1 - a"; echo 1..1'
cases=$((cases + 1))
# Dead is enough: not every container's init reaps.
alive() { grep -q '^State:[[:space:]]*[^ZX]' "/proc/$(<child)/status" 2>/dev/null; }
for ((i = 0; i < 100; i++)); do
	alive || break
	sleep 0.05
done
if alive; then
	echo "not ok $cases - the child is gone"
	failures=$((failures + 1))
else
	echo "ok $cases - the child is gone"
fi

echo "1..$cases"
((failures == 0))
