# observe.sh ROOT SHORT_ID: print everything there is of all sandboxes (or one), changing nothing.
# One awk for any number of them, no process each. A line is KIND NAME REST:
#   boot - ID    marker NAME JSON    process NAME JSON    stat NAME STATE START
#   exit NAME STATUS    work NAME    suspended NAME    end - -
# and of one that is asked for alone also
#   manifest NAME JSON
set -eu
export LC_ALL=C
cd "$1"
only=${2:-}
found() { [ -e "$1" ] || [ -L "$1" ]; }
{
    for name in ${only:-sbx-*} .new-${only:-sbx-*}; do
        found "$name" || continue
        printf 'marker %s\n' "$name"
        [ ! -d "$name/work" ] || printf 'work %s\n' "$name"
        [ ! -e "$name/suspended" ] || printf 'suspended %s\n' "$name"
    done
    for path in .processes/${only:-sbx-*}; do
        [ ! -f "$path" ] || printf 'process %s\n' "${path#.processes/}"
    done
    echo whole
} | awk -v only="$only" '
    # 16 KiB are more than twice what our labels can take; a longer line is not ours.
    function first_line(path) {
        text = ""
        if ((getline text < path) < 0) text = ""
        close(path)
        return substr(text, 1, 16384)
    }
    BEGIN {
        same = "\"labels\":\"same\"}"
        print "boot -", first_line("/proc/sys/kernel/random/boot_id")
    }
    $1 == "whole" { whole = 1 }
    $2 !~ /^(\.new-)?sbx-[0-9a-f]+(\.[0-9]+)?$/ { next }
    $1 == "work" || $1 == "suspended" { print $1, $2 }
    $1 == "marker" {
        line = first_line($2 "/.sandboxer.json")
        print "marker", $2, line
        labels[$2] = substr(line, 2)
        if (only != "") print "manifest", $2, first_line($2 "/manifest.json")
    }
    $1 == "process" {
        line = first_line(".processes/" $2)
        # Labels equal to the workspace are not printed again: they are most of the answer.
        at = index(line, "\"labels\":")
        if (at && substr(line, at) == labels[$2]) print "process", $2, substr(line, 1, at - 1) same
        else print "process", $2, line
        if (!match(line, /"pid":[0-9]+/)) next
        stat = first_line("/proc/" substr(line, RSTART + 6, RLENGTH - 6) "/stat")
        sub(/^.*\) /, "", stat)
        split(stat, field, " ")
        # Z and X are dead, T is held; which of the others it is would only make equal answers differ.
        if (field[20] != "") print "stat", $2, (field[1] ~ /[ZXT]/ ? field[1] : "S"), field[20]
        status = first_line($2 "/exit")
        if (status ~ /^[0-9]+$/) print "exit", $2, status
    }
    # Not when the loop above was killed half-way: what is not listed would be taken for gone.
    END { if (whole) print "end - -" }
'
