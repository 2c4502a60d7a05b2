# free.sh DIRECTORY: print how much is free there, and what quota(1) says where it is installed.
df -Pk "$1" | { while read -r _ _ _ free _; do last=$free; done; echo "$((last / 1024)) MiB are free"; }
quota -w 2>/dev/null | tail -n 1 | cut -c 1-200
:
