# solarbridge in a container, for amd64 and arm64: docker build -t solarbridge .   compose.yaml has the rest
FROM python:3.12-slim AS packages
COPY requirements.lock /
RUN ["pip", "install", "--no-cache-dir", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--target", "/packages", "--requirement", "/requirements.lock"]
COPY bridge /packages/bridge
RUN ["python", "-m", "compileall", "-q", "/packages"]

FROM python:3.12-slim
COPY --from=packages /packages /usr/local/lib/python3.12/site-packages
# a number, so that Kubernetes and others can see that it is not root
RUN ["useradd", "--uid", "10001", "--home-dir", "/state", "--create-home", "--shell", "/usr/sbin/nologin", "solarbridge"]
USER 10001:10001
ENV STATE_DIRECTORY=/state
VOLUME ["/state"]
# SIGTERM ends it in order: "offline" is published
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-I", "-m", "bridge"]
CMD ["run", "--config", "/etc/solarbridge/config.yaml"]
