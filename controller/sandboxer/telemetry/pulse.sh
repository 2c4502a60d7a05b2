# What the machine is doing now. POSIX sh, a fork (df) for each disk.
# $1: directory whose disk is asked about.  $2: the engine's store, whose disk is too; may be empty.
# Output: see answer.py. The empty line ends whatever a login shell printed before.
printf '\nsandboxer-pulse/1\n'
read -r boot_id </proc/sys/kernel/random/boot_id
echo "boot_id=$boot_id"
read -r load1 _ </proc/loadavg
echo "load1=$load1"
read -r uptime_s _ </proc/uptime
echo "uptime_s=$uptime_s"
while read -r key kilobytes _; do
  case $key in MemAvailable:) echo "memory_available_bytes=$((kilobytes * 1024))"; break ;; esac
done </proc/meminfo
disk() { # $1 name, $2 directory
  # The last line only: a long device name makes some df break the first one.
  df -Pk "$2" 2>/dev/null | {
    while read -r _ total _ free _; do last_total=$total last_free=$free; done
    # On a file system that df cannot tell of (an initramfs), its heading is all there is.
    case ${last_total-}${last_free-} in *[!0-9]*) last_total=0 last_free=0 ;; esac
    echo "$1_total_bytes=$((last_total * 1024))"
    echo "$1_free_bytes=$((last_free * 1024))"
  }
}
directory=$1
[ -d "$directory" ] || directory=/
disk disk "$directory"
# Not readable for everybody; then nothing is said of it.
[ -n "$2" ] && [ -d "$2" ] && disk store_disk "$2"
echo "end=1"
