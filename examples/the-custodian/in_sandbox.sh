# in_sandbox.sh PROFILE DIRECTORY COMMAND [INPUT...]: run COMMAND in a sandbox with a copy of DIRECTORY.
# The sandbox goes when the command has ended, however it ended.
set -eu
profile=$1 directory=$2 command=$3
shift 3
[ -n "$directory" ] || { echo "Say which directory: PROJECT=DIR or REPO=DIR." >&2 && exit 2; }
directory=$(cd -- "$directory" && pwd -P)
for input in "repo=$directory" "$@"; do
    set -- "$@" --input "$input"
done
# The inputs as they were given stand before the options made of them.
while [ "$#" -gt 0 ] && [ "$1" != --input ]; do shift; done
name=custodian-$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')

trap 'exit 130' INT
trap 'exit 143' TERM
trap 'sandboxer delete sandbox "$name" --ignore-not-found >&2' EXIT
sandboxer create --name "$name" --profile "$profile" "$@" --ttl 8h --timeout 30m \
    --actor atm --project the-custodian >&2
sandboxer exec "$name" -- sh -c "$command"
