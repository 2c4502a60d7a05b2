# What the machine is. POSIX sh.  $1: work root, or empty.  $2: directory searched first, or empty.
# Output: see answer.py. The empty line ends whatever a login shell printed before.
printf '\nsandboxer-facts/1\n'
umask 077
export LC_ALL=C
# A login without a terminal often lacks these, and compose tools are installed there.
PATH=${2:+$2:}$PATH:$HOME/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin

one_line() { tr -c ' -~' ' ' | cut -c 1-400; }
say() { printf '%s=%s\n' "$1" "$(printf %s "$2" | one_line)"; }
limited() { if command -v timeout >/dev/null; then timeout 10 "$@"; else "$@"; fi; }

read -r boot_id </proc/sys/kernel/random/boot_id
say boot_id "$boot_id"
read -r hostname </proc/sys/kernel/hostname
say hostname "$hostname"
say os "$(. /etc/os-release 2>/dev/null && echo "$PRETTY_NAME")"
say kernel "$(uname -r)"
say architecture "$(uname -m)"
say user "$(id -un 2>/dev/null || id -u)"
uid=$(id -u)
say uid "$uid"
say home "$HOME"
cpus=0
while read -r key _; do case $key in processor) cpus=$((cpus + 1)) ;; esac; done </proc/cpuinfo
allowed=$(nproc 2>/dev/null) && cpus=$allowed
say cpus "$cpus"
while read -r key kilobytes _; do
  case $key in MemTotal:) say memory_bytes "$((kilobytes * 1024))"; break ;; esac
done </proc/meminfo
[ -d /run/systemd/system ] && say systemd 1 || say systemd 0

for tool in bwrap flock packer rsync setsid timeout unshare; do
  path=$(command -v "$tool") && say "tool.$tool" "$path"
done

# The work root holds other people's workspaces: ours alone, and no link.
if [ -n "$1" ]; then root=$1
elif [ "$uid" = 0 ]; then root=/var/lib/sandboxer
else root=$HOME/.sandboxer; fi
if [ -L "$root" ]; then say work_root_error "$root is a symbolic link"
elif ! error=$(mkdir -p -- "$root" 2>&1); then say work_root_error "$error"
elif [ ! -O "$root" ]; then say work_root_error "$root belongs to another user"
elif ! error=$(chmod 700 -- "$root" 2>&1); then say work_root_error "$error"
else root=$(cd -P -- "$root" && pwd -P) && say work_root "$root"; fi

# An engine counts when it answers, not when its program is there.
engine=
store=
docker_is_podman=
case $(docker --version 2>/dev/null) in *podman*) docker_is_podman=1 ;; esac
if [ -z "$docker_is_podman" ] && command -v docker >/dev/null; then
  version=$(limited docker version --format '{{.Server.Version}}' 2>/dev/null) && engine=docker
fi
if [ -z "$engine" ] && command -v podman >/dev/null; then
  version=$(limited podman version --format '{{.Client.Version}}' 2>/dev/null) &&
    store=$(limited podman info --format '{{.Store.GraphRoot}}' 2>/dev/null) && engine=podman
fi
[ "$engine" = docker ] && store=$(limited docker info --format '{{.DockerRootDir}}' 2>/dev/null)
case $store in /*) ;; *) store= ;; esac
if [ -n "$engine" ]; then
  say engine "$engine"
  say engine_store "$store"
  say engine_version "$version"
fi

# A socket somebody already serves; our own podman service is the last resort.
runtime=${XDG_RUNTIME_DIR:-/run/user/$uid}
socket=
case $engine in
docker)
  endpoint=${DOCKER_HOST:-$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null)}
  case $endpoint in unix://*) socket=${endpoint#unix://} ;; esac
  ;;
podman)
  if [ "$uid" = 0 ]; then candidate=/run/podman/podman.sock; else candidate=$runtime/podman/podman.sock; fi
  if [ -S "$candidate" ] && limited podman --remote --url "unix://$candidate" version >/dev/null 2>&1; then
    socket=$candidate
  elif command -v setsid >/dev/null && command -v flock >/dev/null; then
    # 107 bytes fit into the address of a Unix socket, see unix(7).
    own=$root/.engine.sock
    [ "${#own}" -le 107 ] && socket=$own
  fi
  ;;
esac
[ -n "$socket" ] && say engine_socket "$socket"

# Which of them is used is decided by compose_tools.py.
found() { # $1 kind, $2 program, then its arguments
  kind=$1
  program=$(command -v "$2") || return
  shift 2
  text=$(limited "$program" "$@" version 2>/dev/null </dev/null) || return
  say "compose.$kind" "$program $(printf %s "$text" | tr '\n' ' ')"
}
[ -z "$docker_is_podman" ] && found docker docker compose
found podman-compose podman-compose
found docker-compose docker-compose
[ "$engine" = podman ] && found podman podman compose
echo "end=1"
