# enter.sh ... DIRECTORY FILE TEXT: keep the environment of a command (standard input) in FILE.
read_marker "$1"
is_ours "$1" || transient "There is no workspace $1."
[ -d "$1/work" ] || transient "$1 has no work directory."
# The log is turned over at 4 MiB; what one command prints is not cut.
big=$(find "$1/.sandboxer/log" -size +8192 2>/dev/null) || :
[ -z "$big" ] || mv -f "$1/.sandboxer/log" "$1/.sandboxer/log.1"
note "$1" "$3"
cat >"$1/.sandboxer/$2"
