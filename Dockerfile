# Tricklab in one image; `serve` (the default), `worker` and all else are commands of it.
#
#   docker build -t tricklab .                                    PyTorch for processors
#   docker build -t tricklab:cuda --build-arg TORCH_INDEX=https://pypi.org/simple .
#   docker run --network host -v lab:/data tricklab               http://127.0.0.1:8321
#
# Without the host's network use docker-compose.yml: the server listens on 127.0.0.1 unless told
# that the network may be trusted, and the image does not say so for you.
FROM python:3.12-slim

# the processor builds carry a local version (+cpu), which pip takes before those of PyPI
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1 \
    TRICKLAB_FOLDER=/data

WORKDIR /srv/tricklab

# the dependencies alone first, so that a change of the code does not download PyTorch again
COPY pyproject.toml README.md LICENSE ./
RUN mkdir app trainer \
    && touch app/__init__.py trainer/__init__.py \
    && pip install --extra-index-url "$TORCH_INDEX" -e ".[postgres]"

# installed in place: pages, scripts and migrations lie beside the packages
COPY app ./app
COPY trainer ./trainer
COPY templates ./templates
COPY static ./static
COPY migrations ./migrations
RUN pip install --no-deps -e .

RUN useradd --create-home --uid 1000 tricklab && install -d -o tricklab -g tricklab /data
USER tricklab
VOLUME /data
EXPOSE 8321

# a worker answers no requests: switch this off for it (docker run --no-healthcheck)
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8321/healthz', timeout=4)"]

ENTRYPOINT ["tricklab"]
CMD ["serve"]
