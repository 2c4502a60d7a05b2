# build_validate.sh ... COPY PACKER: let Packer judge the template in COPY.
# Standard input is the launch text. Exit status 64: the template is wrong, and stderr says why.
copy=$1 packer=$2
exec 3<&0 </dev/null
cd "$copy" 2>/dev/null || transient "The copy of the template went away."
private=$(mktemp -d "$tmp.XXXXXX")
status=0
said=$(env -i "PATH=$PATH" "HOME=$dir" "TMPDIR=$private" LC_ALL=C.UTF-8 CHECKPOINT_DISABLE=1 \
    PACKER_NO_COLOR=1 "PACKER_CONFIG_DIR=$HOME" "PACKER_CACHE_DIR=${builds%/*}/packer-cache" "$mark" \
    timeout 100 sh -c 'eval "$(cat <&3)"; exec 3<&-; exec "$@" .' \
    sandboxer "$packer" validate 2>&1) || status=$?
rm -rf -- "$private"
[ -d "$copy" ] || transient "The copy of the template went away."
[ "$status" -ne 0 ] || exit 0
discard "$copy"
# How a shell ends when the program is not there, or cannot be run.
case $status in 126 | 127) terminal "$packer cannot be run: $said" ;; esac
# What timeout says when it ended Packer: coreutils, busybox.
case $status in 124 | 143) transient "Packer did not judge the template within 100 s." ;; esac
[ "$status" -le 128 ] || transient "Packer was killed by signal $((status - 128)) while it judged the template."
printf '%s\n' "$said" | head -c 4000 >&2
exit 64
