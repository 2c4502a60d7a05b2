# verify.sh: try both targets on a project of its own, and see that nothing is left.
#   VM               the build VM, a Host or an alias     E2E_PROFILE   profile of the tests
set -eu
here=$(cd -- "$(dirname -- "$0")" && pwd -P)
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
echo 42 >"$project/answer"
fail() { echo "NOT AS IT SHOULD BE: $*" >&2; exit 1; }
count() { sandboxer get sandboxes -o name | grep -c /custodian- || :; }

before=$(count)
said=$(make -s -f "$here/Makefile" remote-build PROJECT="$project" BUILD_COMMAND='cat answer')
[ "$said" = 42 ] || fail "remote-build printed '$said' and not what the command prints"
if said=$(make -s -f "$here/Makefile" remote-build-rsync PROJECT="$project" \
    BUILD_COMMAND='echo built; exit 3' 2>&1); then fail "a build that failed was called a success"; fi
case $said in *DEPRECATED*built*"Error 3"*) ;; *) fail "remote-build-rsync said '$said'" ;; esac
said=$(make -s -f "$here/Makefile" e2e REPO="$project" E2E_COMMAND='test -f answer && echo passed')
[ "$said" = passed ] || fail "e2e printed '$said'"
[ "$(count)" = "$before" ] || fail "a sandbox was left: $(sandboxer get sandboxes -o name)"
echo "Both targets work."
