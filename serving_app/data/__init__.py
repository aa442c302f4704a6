"""Scoring datasets: the servables of a serving app, or of a base path, over the rows of tables.

    from serving_app.data import predict_dataset

    scored = predict_dataset(ray.data.read_parquet("s3://bucket/rows"), model="fraud", label="stable")

The command `serving-app batch` does the same for files, and goes on where it was cut short. Needs the extra `data`.
"""

from serving_app.data.pinned import Pinned, pin
from serving_app.data.predictor import Predictor, predict_dataset

__all__ = ["Pinned", "Predictor", "pin", "predict_dataset"]
