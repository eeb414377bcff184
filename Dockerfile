# The program with a card: docker build -t dpo-lite .   (docs/machines.md says how it is run)
# Only the driver comes from the host; torch's wheels bring the rest of CUDA.
FROM nvidia/cuda:12.8.1-base-ubuntu24.04

# Triton compiles its kernels for the card that is there: it wants a C compiler and Python's headers.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv python3-dev gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/dpo-lite/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# The libraries change seldom and are gigabytes; the program changes often and is small.
COPY requirements.txt /src/
RUN python3 -m venv /opt/dpo-lite && pip install -r /src/requirements.txt
COPY pyproject.toml README.md LICENSE /src/
COPY recipes /src/recipes
COPY dpo_lite /src/dpo_lite
RUN pip install --no-deps /src && rm -rf /src

# Not root. Whoever mounts a folder of another account runs it as that one (--user), which has
# neither a home nor a name: both are given here, and the cache lets everybody write.
RUN useradd --create-home --uid 1001 dpo-lite \
    && mkdir -p /work /cache && chown dpo-lite /work && chmod 1777 /cache
ENV HOME=/cache LOGNAME=dpo-lite \
    HF_HOME=/cache/huggingface DPO_LITE_CACHE=/cache/dpo_lite TRITON_CACHE_DIR=/cache/triton
USER dpo-lite
WORKDIR /work
# /work: recipes, data and runs.  /cache: models, encoded data, reference numbers.
VOLUME ["/work", "/cache"]
EXPOSE 7860
ENTRYPOINT ["dpo-lite"]
CMD ["--help"]
