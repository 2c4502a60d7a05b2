# suspend.sh ...: stop the processes, keep the workspace.
[ -e "$marker" ] || transient "There is no workspace $dir to suspend."
own "$marker"
own "$record"
lock
# The note comes first: processes that are gone without it would be started again.
: >"$dir/suspended"
kill_all
