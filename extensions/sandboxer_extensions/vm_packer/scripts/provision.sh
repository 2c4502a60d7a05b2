# provision.sh ... ROOT NAME LABELS SPEC_HASH COPIES LEAST_KILOBYTES: make the workspace ROOT/NAME.
# Standard input is the manifest. Prints `copy` when the repository must be copied first, else `ready`.
root=$1 name=$2 labels=$3 spec_hash=$4 copies=$5 least_kilobytes=$6
dir=$root/$name marker="{\"path\":\"$root/$name\",\"labels\":$labels}"

IFS= read -r manifest || transient "The manifest did not arrive."
enter_root "$root"
lock

# NOTE: a refusal inside `ours` must end this script, so it is not in the list of the loop.
found=$(ours) || exit
for mine in $found; do
    case ${mine##*/} in
    "$name" | .*) ;;
    *) terminal "Its workspace is $mine already; recreate it to move it." ;;
    esac
done

# Labelled from birth: the directory gets its name only once its marker is inside, and its root is
# known before that.
if [ ! -e "$dir" ] && [ ! -L "$dir" ]; then
    # A workspace that is there is not judged by it: its own build may have filled the disk.
    read_free
    [ "$free" -ge "$least_kilobytes" ] ||
        transient "Only $((free / 1024)) MiB are free in $root, and $((least_kilobytes / 1024)) are wanted."
    # shellcheck disable=SC2086 - the parts are wanted one by one
    entry=$index/$(IFS=/ && set -- $root && IFS=: && printf %s "$*")
    [ -e "$entry" ] || { mkdir -p "$index" && : >"$entry"; }
    clear_births
    new=.sbx-new-$short.$$
    mkdir "$new"
    printf '%s\n' "$marker" >"$new/.sandboxer.json"
    mkdir "$new/.sandboxer" "$new/work"
    keep_manifest "$new/.sandboxer/manifest.json" "$new/.sandboxer/manifest.new"
    note "$new" "made the workspace $dir"
    # -T: onto the name and never into a directory that got it meanwhile.
    mv -T "$new" "$dir" || rm -rf -- "$new"
fi
[ ! -L "$dir" ] || terminal "$dir is a symbolic link, which we never make."
[ -e "$dir" ] || transient "Another command makes or removes $dir."
read_marker "$dir"
[ -n "$line" ] || terminal "$dir is there, and is no workspace of ours."
is_ours "$dir" || terminal "$dir is the workspace of another sandbox."
[ ! -L "$dir/.sandboxer" ] || terminal "$dir/.sandboxer is a symbolic link, which we never make."
[ -d "$dir/.sandboxer" ] || mkdir "$dir/.sandboxer"
[ ! -L "$dir/work" ] || rm -f "$dir/work"
[ -d "$dir/work" ] || { rm -f "$dir/.sandboxer/synced" && mkdir "$dir/work"; }
if [ "$line" != "$marker" ]; then
    printf '%s\n' "$marker" >"$dir/.sandboxer/marker.$$"
    mv -f "$dir/.sandboxer/marker.$$" "$dir/.sandboxer.json"
fi
keep_manifest "$dir/.sandboxer/manifest.json" "$dir/.sandboxer/manifest.$$"

synced=
{ read -r synced <"$dir/.sandboxer/synced"; } 2>/dev/null || :
if [ "$synced" = "$spec_hash" ]; then
    echo ready
elif [ "$copies" = yes ]; then
    echo copy
else
    printf '%s\n' "$spec_hash" >"$dir/.sandboxer/synced"
    echo ready
fi
