"""The models that the suite asks, and the files that a server is started with to have them."""

from __future__ import annotations

from pathlib import Path

from tests.zoo import Zoo

ZOO = ("half_plus_two", "forms")
"""What comes from the zoo as it is."""

PLATFORM = 'model_platform: "tensorflow" '

MODELS = ("half_plus_two", "forms", "broken")
"""By name, which is also the name of the base path. The last one cannot be loaded; a server would not start with it, so
it is added by a reload."""

LABELS = {"stable": 1, "canary": 2, "lost": 9}
"""Of half_plus_two. One of them means a version that does not exist."""

LABELS_TEXT = "".join(f'version_labels {{ key: "{label}" value: {version} }} ' for label, version in LABELS.items())

MODELS_FILE = "models.config"
MONITORING_FILE = "monitoring.config"

MODELS_TEXT = f"""model_config_list {{
  config {{
    name: "half_plus_two" base_path: "%MODELS%/half_plus_two" {PLATFORM}
    model_version_policy {{ all {{ }} }}
    {LABELS_TEXT}
  }}
  config {{ name: "forms" base_path: "%MODELS%/forms" {PLATFORM}}}
}}
"""

FLAGS = (
    "--port=8500", "--rest_api_port=8501", f"--model_config_file=%MODELS%/{MODELS_FILE}",
    f"--monitoring_config_file=%MODELS%/{MONITORING_FILE}", "--allow_version_labels_for_unavailable_models",
    "--max_num_load_retries=0", "--enable_grpc_healthcheck_service",
)
"""How `tensorflow_model_server` and `serving-app model-server` are started for the rows that need no setting."""


def lay_out(folder: Path, zoo: Zoo) -> None:
    """Put the models and the files under a folder; the models stay where the zoo has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ZOO:
        (folder / name).symlink_to(zoo.base(name))
    broken = folder / "broken" / "1"
    broken.mkdir(parents=True)
    # A whole SavedModel, of one graph, which is empty: one that looked torn would not be tried for half a minute.
    (broken / "saved_model.pb").write_bytes(b"\x12\x00")
    (folder / MODELS_FILE).write_text(MODELS_TEXT.replace("%MODELS%", str(folder)))
    (folder / MONITORING_FILE).write_text("prometheus_config { enable: true }\n")
