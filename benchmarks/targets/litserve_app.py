"""LitServe around `benchmarks.targets.expert`: ``python litserve_app.py --port N --batch 64``."""

from __future__ import annotations

import argparse

import litserve


class PurchaseAPI(litserve.LitAPI):
    def setup(self, _device) -> None:
        from benchmarks.targets import expert  # noqa: PLC0415 - in its worker processes only

        self.expert = expert

    def decode_request(self, request: dict) -> tuple[str, list[float]]:
        return request["user_id"], self.expert.encode(request)

    def batch(self, inputs):
        return list(inputs)

    def unbatch(self, output):
        return output

    def predict(self, rows):
        is_one = isinstance(rows, tuple)
        rows = [rows] if is_one else rows
        found = self.expert.predict([values for _, values in rows])
        answers = [(user_id, probability) for (user_id, _), probability in zip(rows, found, strict=True)]
        return answers[0] if is_one else answers

    def encode_response(self, output: tuple[str, float]) -> dict:
        return self.expert.describe(*output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    api = PurchaseAPI(
        max_batch_size=options.batch, batch_timeout=0.001 if options.batch > 1 else 0.0, api_path="/predict_purchase"
    )
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=options.workers, fast_queue=True)
    server.run(host="127.0.0.1", port=options.port, log_level="error", generate_client_file=False, access_log=False)
