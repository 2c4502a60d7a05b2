# enter.sh ... FILE: keep the environment (standard input) in FILE of the workspace, and print
# `LEVEL INIT`: what encloses the sandbox, and a pid inside its namespaces (0: make new ones).
file=$1
[ -e "$marker" ] || transient "There is no workspace $dir."
own "$marker"
own "$record"
alive || transient "The sandbox does not run."
level=${line#*\"level\":\"} && level=${level%%\"*}
cat >"$dir/$file"

# The first process inside is the only grandchild of the keeper below the program that enclosed it.
first_inside() {
    awk -v keeper="$pid" '
        { name = $0; sub(/^[^(]*\(/, "", name); sub(/\) [A-Za-z] .*$/, "", name)
          rest = $0; sub(/^.*\) /, "", rest); split(rest, field, " ")
          parent[$1] = field[2]; if (name == "bwrap" || name == "unshare") wall[$1] = 1 }
        END { for (p in parent) if (wall[parent[p]] && parent[parent[p]] == keeper) print p }
    ' /proc/[0-9]*/stat 2>/dev/null | head -n 1
}

init=0
if [ "$level" != none ]; then
    # A keeper that was just started needs some milliseconds to put up the walls.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        init=$(first_inside) || :
        [ -z "$init" ] && alive || break
        sleep 0.1
    done
fi
# Not allowed for an ordinary user with bubblewrap: its mounts belong to a user namespace in between.
if [ "${init:-0}" != 0 ] && ! (inside "$init" true) </dev/null >/dev/null 2>&1; then init=0; fi
echo "$level ${init:-0}"
