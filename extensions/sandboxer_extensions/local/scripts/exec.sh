# exec.sh WORKSPACE ID FILE LEVEL INIT TIES TERM COMMAND...: run COMMAND inside the sandbox.
set -eu
dir=$1 id=$2 mark=$3 level=$4 init=$5 ties=$6 term=$7
exec 3<"$dir/$mark"
rm -f "$dir/$mark"
shift 7
# File 3 holds the environment; the command starts in the work directory.
set -- env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    "HOME=$dir/work" "SANDBOXER_ID=$id" "SANDBOXER_EXEC=$mark" "TERM=$term" \
    /bin/sh -c 'cd "$HOME" && eval "$(cat <&3)" && exec 3<&- && exec "$@"' sandboxer "$@"
[ "$ties" != terminal ] || leader="setsid -c -w"
[ "$init" = 0 ] || inside "$init" "$@"
enclose "$level" "$dir/work" "$ties" "$@"
