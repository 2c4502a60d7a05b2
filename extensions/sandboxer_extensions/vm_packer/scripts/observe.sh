# observe.sh ...: print every workspace (of UID, when it is not empty), changing nothing. A line is
#   marker PATH JSON    work PATH    synced PATH HASH    manifest PATH JSON    builds    end
readable_roots
for root_ in $(roots); do marked "$root_"; done | while read -r dir; do
    read_marker "$dir"
    case $line in
    *"\"sandboxer.dev/uid\":\"$uid"*) ;;
    *) continue ;;
    esac
    printf 'marker %s %s\n' "$dir" "$line"
    [ -L "$dir/work" ] || [ ! -d "$dir/work" ] || printf 'work %s\n' "$dir"
    synced=
    { read -r synced <"$dir/.sandboxer/synced"; } 2>/dev/null || :
    printf 'synced %s %s\n' "$dir" "$synced"
    print_manifest "$dir" "$dir/.sandboxer/manifest.json"
done
tell_builds
echo end
