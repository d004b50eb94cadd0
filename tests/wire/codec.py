"""Between the SDK's types and the bodies of its protocol: protobuf where it insists, JSON elsewhere.

Written against `tinker/proto/tinker_public_pb2.pyi` of tinker 0.38, the only place where the schema is published.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import tinker
from attrs import frozen
from tinker.proto import tinker_public_pb2 as pb

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

_DTYPES = {pb.DTYPE_FLOAT32: "float32", pb.DTYPE_INT64: "int64"}


class BadRequestBodyError(ValueError):
    """A body that this server cannot read."""


@frozen(kw_only=True)
class Reply:
    """What goes back over the wire."""

    body: bytes
    content_type: str = JSON
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    missing: int = 0
    """Bytes that are announced and never come, as the connection breaks."""


def json_reply(status: int = 200, /, **fields: Any) -> Reply:
    """A JSON object."""
    return Reply(body=json.dumps(fields).encode(), status=status)


def error_reply(message: str, category: str) -> Reply:
    """The result of an operation that failed; *category* is `user`, `server` or `unknown`."""
    return json_reply(error=message, category=category)


@frozen(kw_only=True)
class ForwardBackward:
    """One chunk of a `forward` or `forward_backward`."""

    model_id: str
    seq_id: int
    data: list[tinker.Datum]
    loss_fn: str
    loss_fn_config: dict[str, float | str] | None
    forward_only: bool


def read_forward_backward(body: bytes) -> ForwardBackward:
    """The request in *body*, which is protobuf: JSON is what servers before SDK 0.25 spoke."""
    message = pb.ForwardBackwardRequest()
    try:
        message.ParseFromString(body)
    except Exception as error:
        raise BadRequestBodyError(f"not a ForwardBackwardRequest: {error}") from error
    config: dict[str, Any] = dict(getattr(message, "loss_fn_config", {}))  # numbers only; all that 0.25 has
    for key, value in getattr(message, "loss_fn_config_v2", {}).items():
        config[key] = value.text if value.WhichOneof("value") == "text" else value.number
    return ForwardBackward(
        model_id=message.model_id,
        seq_id=message.seq_id,
        data=[_datum(one) for one in message.data],
        loss_fn=message.loss_fn,
        loss_fn_config=config or None,
        forward_only=message.forward_only,
    )


def _datum(message: Any) -> tinker.Datum:
    tokens: list[int] = []
    for chunk in message.model_input:
        if chunk.WhichOneof("chunk") != "encoded_text":
            raise BadRequestBodyError(f"this server reads text only, got {chunk.WhichOneof('chunk')}")
        tokens += np.frombuffer(chunk.encoded_text.tokens, dtype=np.int32).tolist()
    inputs = {name: _tensor(value) for name, value in message.loss_fn_inputs.items()}
    return tinker.Datum(model_input=tinker.ModelInput.from_ints(tokens), loss_fn_inputs=inputs)


def _tensor(message: Any) -> tinker.TensorData:
    if message.HasField("sparse_csr") or message.dtype not in _DTYPES:
        raise BadRequestBodyError("this server reads dense float32 and int64 tensors only")
    dtype = _DTYPES[message.dtype]
    values = np.frombuffer(message.dense, dtype=dtype).reshape(tuple(message.shape))
    return tinker.TensorData.from_numpy(values.copy())


def forward_backward_reply(output: tinker.ForwardBackwardOutput) -> Reply:
    """The result of `forward` or `forward_backward`: each field of all data in one batched tensor."""
    message = pb.ForwardBackwardOutput(loss_fn_output_type="ArrayRecord", metrics=output.metrics)
    record = message.loss_fn_outputs.add(type_tag="ArrayRecord", num_datums=len(output.loss_fn_outputs))
    for name in output.loss_fn_outputs[0] if output.loss_fn_outputs else ():
        arrays = [np.asarray(one[name].to_numpy(), dtype=np.float32) for one in output.loss_fn_outputs]
        offsets = np.cumsum([0, *(array.nbytes for array in arrays)], dtype=np.int64)
        field = record.fields[name]
        field.data = b"".join(array.tobytes() for array in arrays)
        field.offsets = offsets.tobytes()
        field.dtype = pb.DTYPE_FLOAT32
        field.trailing_shape.extend(arrays[0].shape[1:])
    return Reply(body=message.SerializeToString(), content_type=PROTOBUF)


def sample_reply(response: tinker.SampleResponse, prompt_logprobs: list[float | None] | None) -> Reply:
    """The result of `asample`; ids of the sequences went out with the promise."""
    message = pb.SampleResponse()
    for sequence in response.sequences:
        reason = pb.STOP_REASON_STOP if sequence.stop_reason == "stop" else pb.STOP_REASON_LENGTH
        sent = message.sequences.add(stop_reason=reason, tokens=np.array(sequence.tokens, dtype=np.int32).tobytes())
        if sequence.logprobs is not None:
            sent.logprobs = np.array(sequence.logprobs, dtype=np.float32).tobytes()
    if prompt_logprobs is not None:
        known = [np.nan if value is None else value for value in prompt_logprobs]
        message.prompt_logprobs = np.array(known, dtype=np.float32).tobytes()
    if (top := response.topk_prompt_logprobs_np) is not None:
        message.topk_prompt_logprobs.token_ids = top.token_ids.astype(np.int32).tobytes()
        message.topk_prompt_logprobs.logprobs = top.logprobs.astype(np.float32).tobytes()
        sent_top = message.topk_prompt_logprobs
        length, sent_top.k = top.token_ids.shape
        setattr(sent_top, "length" if hasattr(sent_top, "length") else "prompt_length", length)  # before 0.28
    return Reply(body=message.SerializeToString(), content_type=PROTOBUF)
