"""What notebooks need besides calling models: a serving app that is started in one cell and stopped in another.

    from serving_app.notebook import demo_models, start_app

    models = demo_models()
    app = start_app({"half_plus_two": models / "ready" / "half_plus_two"})
    app.connection.model("half_plus_two").predict(x=[1.0, 2.0, 5.0])
    app.stop()
"""

from serving_app.notebook.local_app import LocalApp, start_app
from serving_app.notebook.samples import demo_models

__all__ = ["LocalApp", "demo_models", "start_app"]
