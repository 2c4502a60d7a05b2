# abandon.sh ... DIRECTORY FILE: kill the command whose environment came in FILE, children included.
kill_members "SANDBOXER_EXEC=$2" ""
rm -f "$1/.sandboxer/$2" "$1/.sandboxer/$2".*
