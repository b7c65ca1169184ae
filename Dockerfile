# The page and the API of `restore serve`, see docs/serve.md.
FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN pip install --no-cache-dir '/source[web]' && rm -rf /source \
    && useradd --create-home restore
USER restore
EXPOSE 7860
CMD ["restore", "serve", "--host", "0.0.0.0"]
