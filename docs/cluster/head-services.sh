#!/usr/bin/env bash
# What runs on the head beside Ray, all of it on 127.0.0.1: PostgreSQL, MLflow, Prometheus and Grafana.
#
#   head-services.sh s3://BUCKET/mlflow
#
# MLflow (port 5000) keeps its runs in PostgreSQL, which lets in the user of this machine through its socket, so that
# there is no password, and its files at the address given. Prometheus (9090) and Grafana (3000) run with the
# configuration that Ray wrote when it started. Services end with the machine; `ray up` starts them again.
set -euo pipefail
artifacts=${1:?expected the address of MLflow\'s files, such as s3://BUCKET/mlflow}
metrics=/tmp/ray/session_latest/metrics

install() {
  command -v grafana-server > /dev/null && return
  sudo mkdir -p /etc/apt/keyrings
  curl -fsSL https://apt.grafana.com/gpg.key | sudo gpg --batch --yes --dearmor -o /etc/apt/keyrings/grafana.gpg
  echo 'deb [signed-by=/etc/apt/keyrings/grafana.gpg] https://apt.grafana.com stable main' |
    sudo tee /etc/apt/sources.list.d/grafana.list > /dev/null
  sudo apt-get update -qq
  sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq postgresql prometheus grafana
  sudo systemctl disable --quiet --now prometheus grafana-server # theirs listen everywhere
}

database() {
  sudo -u postgres psql -tAc "SELECT 1 FROM pg_roles WHERE rolname = '$USER'" | grep -q 1 || sudo -u postgres createuser "$USER"
  sudo -u postgres psql -tAc "SELECT 1 FROM pg_database WHERE datname = 'mlflow'" | grep -q 1 || sudo -u postgres createdb --owner "$USER" mlflow
}

# A service of systemd that is started anew whenever it ends; its log: journalctl --unit NAME
service() {
  local name=$1
  shift
  sudo systemctl stop "$name" 2> /dev/null || true
  sudo systemd-run --quiet --collect --unit "$name" --uid "$(id -u)" --gid "$(id -g)" \
    --property Restart=always --property RestartSec=5 --property NoNewPrivileges=yes \
    --setenv PATH="$HOME/env/bin:/usr/bin:/bin" --setenv MLFLOW_DISABLE_TELEMETRY=true \
    ${AWS_ENDPOINT_URL:+--setenv "AWS_ENDPOINT_URL=$AWS_ENDPOINT_URL"} \
    --setenv GF_SERVER_HTTP_ADDR=127.0.0.1 --setenv GF_PATHS_DATA="$HOME/grafana" "$@"
}

install
database
service gapctl-mlflow "$HOME/env/bin/mlflow" server --host 127.0.0.1 --port 5000 \
  --backend-store-uri postgresql:///mlflow --artifacts-destination "$artifacts"
service gapctl-prometheus /usr/bin/prometheus --web.listen-address=127.0.0.1:9090 \
  --config.file="$metrics/prometheus/prometheus.yml" --storage.tsdb.path="$HOME/prometheus"
service gapctl-grafana /usr/sbin/grafana-server --homepath /usr/share/grafana --config "$metrics/grafana/grafana.ini" web
