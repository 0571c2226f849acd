#!/bin/bash
# Run as root in a guest that boots images, such as Fedora CoreOS, by `machine upgrade` and `machine os`:
#   check                 print what is booted and whether there is a newer one; for images of a registry, what it has:
#                         `image REFERENCE DIGEST ARCHITECTURE`, and the manifest
#   upgrade               stage the newest image of the same name
#   apply TRANSPORT NAME  stage another image
# The last line of what the latter two print says `restart` where an image waits for one; all that happens goes to
# standard error.
set -euo pipefail
export LC_ALL=C.UTF-8 PATH="$PATH:/usr/sbin:/sbin"

# Of those that have both, rpm-ostree: bootc refuses a system with packages of its own on top.
tool=bootc
if command -v rpm-ostree >/dev/null; then
    tool=rpm-ostree
fi

# Exit status 77 says that nothing is new.
or_unchanged() {
    local status=0
    "$@" || status=$?
    [ "$status" -eq 77 ] || return "$status"
}

# Print the reference of the booted deployment's image, if it has one, from rpm-ostree's status on standard input. The
# images of other deployments may be gone.
booted-reference() {
    awk '
        {
            line = $0
            while (match(line, /"([^"\\]|\\.)*"|[][{}]|true/)) {
                token = substr(line, RSTART, RLENGTH)
                line = substr(line, RSTART + RLENGTH)
                if (line ~ /^ *:/) {
                    key = token
                } else if (token == "{" || token == "[") {
                    depth++
                    if (depth == 3) { booted = 0; reference = "" }
                } else if (token == "}" || token == "]") {
                    if (depth == 3 && booted && reference != "") print reference
                    depth--
                } else if (depth == 3 && key == "\"booted\"") {
                    booted = token == "true"
                } else if (depth == 3 && key == "\"container-image-reference\"") {
                    reference = substr(token, 2, length(token) - 2)
                }
            }
        }'
}

# rpm-ostree's own check finds nothing new in a registry, or does not say what.
rpm-ostree-check() {
    local status reference
    status=$(rpm-ostree status --json)
    printf '%s\n' "$status"
    reference=$(booted-reference <<<"$status")
    if [ -n "$reference" ]; then
        show-manifest "$reference"
    else
        or_unchanged rpm-ostree upgrade --bypass-driver --check --unchanged-exit-77
    fi
}

# What kind of signature is asked for comes first in a reference, and for some kinds then the name of an ostree remote.
show-manifest() {
    local name=${1#*:} manifest
    case $1 in
    ostree-remote-*) name=${name#*:} ;;
    esac
    case $1 in
    ostree-*-registry:*) name=docker://$name ;;
    *:registry:*) name=docker://${name#registry:} ;;
    esac
    if [ -e /etc/ostree/auth.json ]; then
        export REGISTRY_AUTH_FILE=/etc/ostree/auth.json
    fi
    manifest=$(skopeo inspect --raw "$name" && echo .)
    manifest=${manifest%.}
    echo "image $1 sha256:$(printf %s "$manifest" | sha256sum | cut -d ' ' -f 1) $(uname -m)"
    printf '%s\n' "$manifest"
}

bootc-check() {
    bootc upgrade --check >&2
    bootc status --format json
}

# An updater of the system's own, such as Zincati, is passed over: this was asked for.
rpm-ostree-upgrade() {
    or_unchanged rpm-ostree upgrade --bypass-driver --unchanged-exit-77
}

bootc-upgrade() {
    bootc upgrade
}

rpm-ostree-apply() {
    case "$1" in
    registry) rpm-ostree rebase --bypass-driver "ostree-unverified-registry:$2" ;;
    *) rpm-ostree rebase --bypass-driver "ostree-unverified-image:$1:$2" ;;
    esac
}

bootc-apply() {
    bootc switch --transport "$1" "$2"
}

verb=$1
shift
# folders.sh gives rpm-ostree the image's own directory.
if [ "$tool" = bootc ] && [ "$verb" != check ] && mountpoint -q /etc/containers; then
    echo "/etc/containers is a folder of the host: its policy.json decides which images of the OS are accepted" >&2
fi
if [ "$verb" = check ]; then
    "$tool-check" </dev/null
    exit
fi
# It ends what it has begun, also when nobody reads along any more, and reads nothing, as the rest of this script is on
# standard input.
"$tool-$verb" "$@" </dev/null 2>&1 | tee --output-error=warn-nopipe /dev/null >&2
if [ -e /run/ostree/staged-deployment ]; then
    echo restart
else
    echo complete
fi
