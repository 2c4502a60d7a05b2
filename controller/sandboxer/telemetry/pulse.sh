# What the machine is doing now. POSIX sh, one fork (df).  $1: directory whose disk is asked about.
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
directory=$1
[ -d "$directory" ] || directory=/
# The last line only: a long device name makes some df break the first one.
df -Pk "$directory" 2>/dev/null | {
  while read -r _ total _ free _; do last_total=$total last_free=$free; done
  echo "disk_total_bytes=$((last_total * 1024))"
  echo "disk_free_bytes=$((last_free * 1024))"
}
echo "end=1"
