# Read by each shell, so no program is run: Podman's socket follows from the user's number, which bash knows.
if [ "${UID:-$(id -u)}" = 0 ]; then
    export DOCKER_HOST=unix:///run/podman/podman.sock
else
    export DOCKER_HOST="unix:///run/user/${UID:-$(id -u)}/podman/podman.sock"
fi
