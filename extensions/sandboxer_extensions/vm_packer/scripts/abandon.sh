# abandon.sh ... DIRECTORY FILE: kill the command whose environment came in FILE, children included.
# One that is only about to start finds nothing to start with. A program may have taken the right to
# remove it away.
rm -f "$1/.sandboxer/$2" || :
kill_members "SANDBOXER_EXEC=$2" ""
rm -f "$1/.sandboxer/$2".*
