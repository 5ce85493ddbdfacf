"""MLServer's runtime for the model: encoded rows as one tensor of its V2 protocol, probabilities back.

The client encodes: MLServer is spared that work, as its protocol has no rows of mixed types in one tensor.
"""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Purchase(MLModel):
    async def load(self) -> bool:
        from benchmarks.targets import expert  # noqa: PLC0415 - where it is loaded only

        self.model = expert.model
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        matrix = NumpyCodec.decode_input(payload.inputs[0])
        found = self.model.predict_proba(matrix, thread_count=1)[:, 1:]
        output = NumpyCodec.encode_output("probability", found)
        return InferenceResponse(model_name=self.name, outputs=[output], id=payload.id)
