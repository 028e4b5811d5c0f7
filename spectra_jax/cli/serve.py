"""`spectra-jax serve`: detections over HTTP."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from spectra_jax.cli.invocation import Invocation
from spectra_jax.cli.options import Debug, EncoderPrecision, Model, NoCompileCache, PrecisionOption, SpoofPrior
from spectra_jax.cli.output import print_message
from spectra_jax.hub import PUBLISHED


def serve(
    context: typer.Context,
    model: Model = PUBLISHED,
    host: Annotated[
        str, typer.Option(metavar="H", help="Address to listen on; 0.0.0.0 for all. Others need an API key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0 for any free one.")] = 8000,
    no_api_key: Annotated[
        bool, typer.Option("--no-api-key", help="Let other machines in without a key, where something else guards it.")
    ] = False,
    threshold: Annotated[
        str | None,
        typer.Option(metavar="T|NAME", help="Of requests that state none; see `inspect`. Default: none is applied."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="C", help="The file that `calibrate` wrote: adds llr and P(spoof)."),
    ] = None,
    spoof_prior: SpoofPrior = 0.5,
    allow_url: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PREFIX",
            help="Read recordings at URLs below this one, such as https://example.org/calls/; may be repeated. "
            "Default: no URL is read.",
            show_default=False,
        ),
    ] = None,
    precision: EncoderPrecision = PrecisionOption.float32,
    certify: Annotated[
        bool,
        typer.Option(
            "--certify", help="Score windows with a near tie again in float64, so that no score depends on its batch."
        ),
    ] = False,
    max_batch: Annotated[int, typer.Option(metavar="N", min=1, help="Windows per call of the network.")] = 8,
    max_wait_ms: Annotated[
        float,
        typer.Option(
            metavar="MS", min=0, help="How long a window waits for others of its batch while the network is idle."
        ),
    ] = 5.0,
    max_queue: Annotated[
        int, typer.Option(metavar="N", min=1, help="Recordings in work or waiting; more get the status 429.")
    ] = 128,
    max_bytes: Annotated[int, typer.Option(metavar="N", min=1, help="Largest recording, in bytes.")] = 100_000_000,
    max_buffered_bytes: Annotated[
        int, typer.Option(metavar="N", min=1, help="Bytes of all recordings in memory; more get the status 429.")
    ] = 1_000_000_000,
    max_seconds: Annotated[float, typer.Option(metavar="S", help="Longest recording, in seconds.")] = 600.0,
    body_seconds: Annotated[
        float, typer.Option(metavar="S", help="How long a request's body, or reading a URL, may take.")
    ] = 60.0,
    drain_seconds: Annotated[
        float, typer.Option(metavar="S", help="How long requests in flight may take after SIGTERM or Ctrl-C.")
    ] = 30.0,
    decoder_threads: Annotated[int, typer.Option(metavar="N", min=1, help="Recordings decoded at a time.")] = 2,
    no_compile_cache: NoCompileCache = False,
    debug: Debug = False,
) -> None:
    """Score recordings that are sent over HTTP.

    The page at / takes a recording, and /docs describes the requests. The API key is that of the environment variable
    SPECTRA_JAX_API_KEY. Needs the extra `serve`.

    Exit status: 2 wrong usage, or a model that cannot be used; 143 by SIGTERM, 130 by Ctrl-C. Requests in flight are
    finished first, within --drain-seconds; a second Ctrl-C cancels them.
    """
    from spectra_jax.serving.settings import API_KEY_VARIABLE, ServiceSettings, check_exposure, require_serve_extra

    require_serve_extra()
    from spectra_jax.jobs.scorer_options import ScorerOptions
    from spectra_jax.serving.run import listen, serve
    from spectra_jax.serving.service import Service

    api_key = os.environ.get(API_KEY_VARIABLE)
    check_exposure(host, api_key, no_api_key=no_api_key)
    settings = ServiceSettings(
        max_wait_ms=max_wait_ms,
        max_queue=max_queue,
        max_bytes=max_bytes,
        max_buffered_bytes=max_buffered_bytes,
        max_seconds=max_seconds,
        body_seconds=body_seconds,
        drain_seconds=drain_seconds,
        decoder_threads=decoder_threads,
        threshold=threshold,
        calibration=calibration,
        spoof_prior=spoof_prior,
        allowed_urls=tuple(allow_url or ()),
        api_key=api_key,
    )
    options = ScorerOptions(model, precision.value, max_batch, certify=certify, use_cache=not no_compile_cache)
    service = Service(settings, lambda: options.load(None, print_message), model)
    listening = listen(host, port)
    invocation = Invocation.of(context)
    invocation.on_interrupt = "requests in flight were finished"
    try:
        serve(service, listening, host)
    finally:
        if service.num_cancelled:
            invocation.on_interrupt = f"requests in flight were cancelled: {service.num_cancelled:,}"
