"""The app of `mlflow server --app-name gapctl`: MLflow's own, whose pages open among model training.

MLflow's pages keep in the browser whether they are for language models or for model training, and whether their
assistant is open; both begin with language models. They also keep each experiment's table, which begins without a
metric. This app gives the page a script that sets what a browser has not kept yet: model training, a closed assistant,
and the table that `gapctl.tracking.views` saves with an experiment. What a person has chosen there stays.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gapctl.tracking.views import PREFIX, TABLE

if TYPE_CHECKING:
    from fastapi import FastAPI
    from flask import Response

APP_NAME: Final = "gapctl"
"""The name of this app among the entry points `mlflow.app` of pyproject.toml."""

FIRST_CHOICES: Final = {
    "mlflow.workflowType_v1": "machine_learning",
    "mlflow.assistant.panelOpen_v1": False,
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": True,
    "mlflow.home.getting-started.collapsed_v1": True,
}
"""Values by key of the browser's local storage, where MLflow's pages read them as JSON. Tried with 3.17."""

SCRIPT: Final = f"""<script>try {{
  const set = (key, value) => localStorage.getItem(key) ?? localStorage.setItem(key, value);
  for (const [key, value] of Object.entries({json.dumps(FIRST_CHOICES)})) set(key, JSON.stringify(value));
  const request = new XMLHttpRequest();
  request.open("POST", "ajax-api/2.0/mlflow/experiments/search", false);
  request.setRequestHeader("Content-Type", "application/json");
  request.send('{{"max_results": 1000}}');
  for (const experiment of JSON.parse(request.responseText).experiments) {{
    const view = experiment.tags?.find((tag) => tag.key === {json.dumps(PREFIX + TABLE)});
    const scope = `ExperimentPage-["${{experiment.experiment_id}}"]`;
    if (view) set(`MLflowLocalStorage-1.1-${{scope}}-ReactComponentState`, JSON.parse(view.value).state);
  }}
}} catch {{}}</script>"""
"""Waits for the list of experiments, as the page reads its state when it starts. Leaves the rest of the page as it is
in a browser that forbids to store anything."""

HEAD: Final = "<head>"
PAGE: Final = "serve"
"""The Flask endpoint that returns MLflow's page. All pages are this one; the address after `#` names what it shows."""


def create_app() -> "FastAPI":
    """Return MLflow's app with the script in its page."""
    from mlflow.server import app as flask_app
    from mlflow.server.fastapi_app import app

    flask_app.before_request(_answer_with_script)
    fastapi_app: FastAPI = app
    return fastapi_app


def _answer_with_script() -> "Response | None":
    """Answer a request for the page; leave others, and a page without a head, to MLflow."""
    from flask import Response, current_app, request

    page = Path(current_app.static_folder or "", "index.html")
    if request.endpoint != PAGE or not page.is_file():
        return None
    before, head, rest = page.read_text(encoding="utf-8").partition(HEAD)
    # Not cached: on the same address, a browser may have the page of a server without the script.
    return Response(f"{before}{head}{SCRIPT}{rest}", headers={"Cache-Control": "no-store"}) if head else None
