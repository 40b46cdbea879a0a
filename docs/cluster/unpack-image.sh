#!/usr/bin/env bash
# Puts the environment of the image of docs/cluster/Dockerfile into ~/env, which is quicker than to install it there.
#
#   unpack-image.sh REGISTRY/gapctl:0.1.0-ray2.60.0-py312-cu13
#
# Where that cannot be, for want of Docker, of the image, of a right to it or of its Python, what was begun is deleted and the
# exit code is 1, so that the node installs from the lock. Ray runs on the machine itself, not in a container.
set -euo pipefail
image=${1:?expected an image such as REGISTRY/gapctl:0.1.0-ray2.60.0-py312-cu13}
registry=${image%%/*}
metadata=http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token

# Registries of the clouds let in the machine's own role or account. Others are public, or somebody logged in before.
log_in() {
  case $registry in
    *.dkr.ecr.*.amazonaws.com)
      aws ecr get-login-password --region "$(cut -d. -f4 <<< "$registry")" |
        sudo docker login --username AWS --password-stdin "$registry"
      ;;
    *-docker.pkg.dev)
      curl -fsS -H 'Metadata-Flavor: Google' "$metadata" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])' |
        sudo docker login --username oauth2accesstoken --password-stdin "https://$registry"
      ;;
  esac
}

unpack() {
  command -v docker > /dev/null || { echo "there is no docker" >&2; return 1; }
  log_in > /dev/null
  sudo docker pull --quiet "$image" > /dev/null
  mkdir -p ~/env.part
  sudo docker run --rm --user 0 --entrypoint sh --volume ~/env.part:/part "$image" -c 'cp -a "$HOME"/env/. /part/'
  sudo chown -R "$(id -u):$(id -g)" ~/env.part
  mv ~/env.part ~/env
  # It was made for the home of the user ubuntu and the Python of Ubuntu 24.04, and runs nowhere else.
  ~/env/bin/ray --version > /dev/null
  sudo docker rmi "$image" > /dev/null || true
}

# As a process of its own: in a condition, bash would go on after an error.
if [ "${2:-}" = now ]; then
  unpack
elif [ -e ~/env ]; then
  exit 0
elif ! bash "$0" "$image" now; then
  sudo rm -rf ~/env.part ~/env
  echo "$image: not unpacked, the environment is installed instead" >&2
  exit 1
fi
