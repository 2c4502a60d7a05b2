# synced.sh ... DIRECTORY SPEC_HASH TEXT: note that the repository was copied for SPEC_HASH.
read_marker "$1"
is_ours "$1" || transient "The workspace $1 went away meanwhile."
# NOTE: a copy for an older spec must not call a newer one done.
case $line in
*"\"sandboxer.dev/spec-hash\":\"$2\""*) ;;
*) transient "The wish changed while $1 was filled." ;;
esac
note "$1" "$3"
printf '%s\n' "$2" >"$1/.sandboxer/synced"
