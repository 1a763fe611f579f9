# The labelling app for a team: docs/deploy.md says how to run it.
#
#   docker build -t prefkit .
#   docker run --rm -it -v prefkit:/data prefkit users add /data/work kim --role lead
#   docker run -v prefkit:/data -p 127.0.0.1:7860:7860 prefkit
FROM python:3.12-slim

# 1000 is also the user that a Hugging Face Space runs a container as.
RUN useradd --create-home --uid 1000 prefkit \
    && mkdir /data \
    && chown prefkit:prefkit /data

WORKDIR /opt/prefkit
COPY pyproject.toml README.md LICENSE ./
COPY prefkit ./prefkit
COPY apps ./apps
COPY data ./data
RUN pip install --no-cache-dir '.[app,postgres,oidc]'

USER prefkit
WORKDIR /data
ENV HOME=/home/prefkit \
    PYTHONUNBUFFERED=1 \
    GRADIO_ANALYTICS_ENABLED=False \
    HF_HUB_DISABLE_TELEMETRY=1
# No VOLUME: it would be a mount of its own at /data even where nothing is kept, and by such a mount
# the app tells whether a Space has storage attached.
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/login', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["prefkit"]
CMD ["annotate", "/data/work", "--host", "0.0.0.0", "--port", "7860", "--no-browser"]
