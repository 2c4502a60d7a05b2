# provision.sh ... LABELS SPEC_HASH ISOLATION COPIED REPOSITORY KEEPER: make the workspace and its process.
# Standard input is the manifest, one line, and then the text the sandbox runs. Prints `copy` when the
# repository must be copied first, else `running LEVEL`.
labels=$1 spec_hash=$2 isolation=$3 copied=$4 repository=$5 keeper=$6
IFS= read -r manifest || transient "The manifest did not arrive."

write_marker() { printf '{"labels":%s}\n' "$labels" >"$1"; }
write_manifest() { printf '%s\n' "$manifest" >"$1"; }
# Replace FILE of the workspace by what FUNCTION writes, when that differs.
renew() { "$2" "$dir/renewed" && { cmp -s "$dir/renewed" "$1" && rm "$dir/renewed" || mv -f "$dir/renewed" "$1"; }; }

# Labelled from birth: the directory gets its name only once its marker is inside.
if [ ! -e "$dir" ] && [ ! -L "$dir" ]; then
    new=$root/.new-$short.$$
    mkdir "$new"
    write_marker "$new/.sandboxer.json"
    write_manifest "$new/manifest.json"
    mkdir "$new/work"
    mv -T "$new" "$dir"
fi
[ -d "$dir" ] && [ ! -L "$dir" ] && [ -f "$marker" ] ||
    terminal "$dir is there and is not a workspace of ours."
own "$marker"
own "$record"
lock
mkdir -p "$root/.processes"
rm -rf "$root/.new-$short."*
renew "$marker" write_marker
renew "$dir/manifest.json" write_manifest

if alive && [ -d "$dir/work" ] && grep -qF "\"sandboxer.dev/spec-hash\":\"$spec_hash\"" "$record"; then
    rm -f "$dir/suspended"
    # Somebody may hold it with SIGSTOP; who runs is not disturbed.
    kill -s CONT -- "-$pid" 2>/dev/null || :
    level=${line#*\"level\":\"}
    echo "running ${level%%\"*}"
    exit
fi
kill_all
[ ! -L "$dir/work" ] || rm -f "$dir/work"
# NOTE: what was copied went with the directory, and is copied again.
[ -d "$dir/work" ] || { rm -f "$dir/repository" && mkdir "$dir/work"; }
if [ "$copied" = yes ]; then
    printf '%s\n' "$repository" >"$dir/repository"
elif [ -n "$repository" ] && ! printf '%s\n' "$repository" | cmp -s - "$dir/repository"; then
    echo copy
    exit
fi

# Being installed says nothing: containers and hardened kernels forbid it. Only a try tells.
works() { (enclose "$1" "$dir/work" session /bin/sh -c :) </dev/null >/dev/null 2>"$dir/why"; }
level=none
for candidate in bubblewrap unshare; do
    case $isolation in
    auto | "$candidate")
        if works "$candidate"; then level=$candidate && break; fi
        [ "$isolation" = auto ] || terminal "$candidate does not work here: $(head -c 300 "$dir/why")"
        ;;
    esac
done

cat >"$dir/launch"
# Cut short when the controller died while it was sending.
[ "$(tail -n 1 "$dir/launch")" = "# end" ] || transient "Half of what to run arrived."
rm -f "$dir/exit" "$dir/suspended" "$dir/why"
# A clean environment: nothing of the controller's, its secrets least of all, reaches the sandbox.
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    "HOME=$dir/work" "SANDBOXER_ID=$id" \
    setsid /bin/sh -c "$keeper" keeper "$dir" "$record" "$labels" "$level" \
    <"$dir/launch" >/dev/null 2>"$dir/keeper.log" &
# Let go and take the lock again: it comes free once the keeper has written its record.
exec 9<&-
lock
rm -f "$dir/launch"
alive || transient "The process of $short ended at once: $(head -c 300 "$dir/keeper.log")"
echo "running $level"
