# The program `lightning-store`: runners, the healthcheck daemon and the server. Redis has an image of its own, see
# compose.yaml.
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
RUN --mount=from=build,source=/wheels,target=/wheels pip install --no-cache-dir "$(echo /wheels/*.whl)[server,client,metrics]" \
    && useradd --create-home runner
USER runner
WORKDIR /home/runner
ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["lightning-store"]
CMD ["--help"]
