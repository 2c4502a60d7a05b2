# build_logs.sh DIRECTORY LINES FOLLOW: print the log as Packer shows it to a person.
set -eu
cd "$1"
lines=$2
# busybox has no -u; there lines come in blocks while they are followed.
unbuffered=-u
sed -u '' </dev/null 2>/dev/null || unbuffered=
# Lines of Packer's machine-readable form lose their head; a newline in them is `\n`.
plain() {
    # shellcheck disable=SC2086 - an option or none
    LC_ALL=C sed $unbuffered -n '
        /^[0-9]\{1,\},[^,]*,ui,[a-z]*,/{
            s/^[0-9]\{1,\},[^,]*,ui,[a-z]*,//
            s/%!(PACKER_COMMA)/,/g
            s/\\n/\
/g
            p
            d
        }
        /^[0-9]\{1,\},[^,]*,[a-z-]*/d
        p
    '
}
if [ "$3" = yes ] && [ ! -f exit ]; then
    run=
    { read -r run <run; } 2>/dev/null || :
    pid=${run#*\"pid\":} && pid=${pid%%[!0-9]*}
    # It ends with the build, where tail can do that. -F goes on in the new file when the log is
    # turned over.
    case $(tail --help 2>&1) in
    *--pid*) set -- -s 0.2 "--pid=${pid:-1}" ;;
    *) set -- ;;
    esac
    tail "$@" -n "${lines:-+1}" -F log 2>/dev/null | plain
elif [ -n "$lines" ]; then
    cat log.1 log 2>/dev/null | plain | tail -n "$lines"
else
    cat log.1 log 2>/dev/null | plain
fi
