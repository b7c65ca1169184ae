# The page and the API of `restore serve`, see docs/serve.md.
FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

# PyTorch of PyPI has CUDA; https://download.pytorch.org/whl/cpu has it for processors alone.
ARG PYTORCH_INDEX=https://pypi.org/simple
RUN pip install --no-cache-dir --index-url "$PYTORCH_INDEX" torch torchvision

# The commit that `restore --version` names; the image has no .git to look it up.
ARG COMMIT=
COPY . /source
RUN if [ -n "$COMMIT" ]; then echo "$COMMIT" > /source/restore/COMMIT; fi \
    && pip install --no-cache-dir '/source[web]' && rm -rf /source \
    && useradd --create-home restore
USER restore
EXPOSE 7860
CMD ["restore", "serve", "--host", "0.0.0.0"]
