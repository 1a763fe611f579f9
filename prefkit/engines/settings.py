"""Which engine writes the text and how it is fed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from prefkit.settings import Settings

Backend = Literal["vllm", "transformers", "server", "scripted"]


class EngineSettings(Settings):
    """The ``engine`` part of a stage's settings."""

    backend: Literal["auto", "vllm", "transformers", "server", "scripted"] = Field(
        default="auto",
        description="auto takes the server where server_url is set, vLLM where it is installed, "
        "else transformers; scripted writes made-up text without a model.",
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Answers written at once; null takes 128 on a CPU and 256 on a GPU.",
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        default="auto", description="Precision of the weights; auto is bfloat16."
    )
    device: str = Field(
        default="auto",
        description="transformers only: auto takes CUDA where there is one, else the CPU.",
    )
    max_model_len: int | None = Field(
        default=None,
        ge=1,
        description="vLLM only: the longest prompt and answer together, in tokens; null takes what "
        "the job needs.",
    )
    gpu_memory_utilization: float | None = Field(
        default=None,
        gt=0.0,
        le=1.0,
        description="vLLM only: the share of memory it may take; null is 0.9 on a GPU, 0.2 on a "
        "CPU.",
    )
    cpu_kv_gib: int = Field(
        default=1, ge=1, description="vLLM on a CPU: memory for its key-value cache, in GiB."
    )
    tensor_parallel_size: int = Field(
        default=1, ge=1, description="vLLM only: the number of GPUs that share one model."
    )
    server_url: str | None = Field(
        default=None,
        description="An OpenAI-compatible server, for example http://127.0.0.1:8000/v1.",
    )
    server_model: str | None = Field(
        default=None,
        description="The model's name on the server; null takes the first that it lists.",
    )
    api_key_env: str = Field(
        default="OPENAI_API_KEY",
        description="The environment variable with the server's key, if any.",
    )
    server_concurrency: int = Field(
        default=8, ge=1, description="Requests in flight to the server."
    )
    server_retries: int = Field(
        default=4,
        ge=0,
        description="Further tries for a request that the server refused or dropped.",
    )
    server_timeout_seconds: float = Field(
        default=120.0, gt=0.0, description="How long one request to the server may take."
    )
    script: str = Field(
        default="{opening} {topic}. {closing}",
        description="scripted only: the text; {opening}, {topic} and {closing} vary with the seed, "
        "{prompt} is the last question.",
    )
