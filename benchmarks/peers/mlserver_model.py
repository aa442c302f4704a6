"""The runtime that MLServer loads."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from saved_model import SavedModel


class Served(MLModel):
    """One SavedModel."""

    async def load(self) -> bool:
        self._model = SavedModel(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {
            each.name: np.array(StringCodec.decode_input(each), object)
            if each.datatype == "BYTES"
            else NumpyCodec.decode_input(each)
            for each in payload.inputs
        }
        outputs = self._model(inputs)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output(name, value) for name, value in outputs.items()]
        )
