# docker build -t sparring .                                                  (CPU)
# docker build -t sparring:cuda --build-arg INDEX=https://download.pytorch.org/whl/cu124 .   (CUDA; run with --gpus all)
# docker run --rm -v "$PWD:/work" sparring evaluate python:mymodel:load --data pictures --out run
FROM python:3.12-slim
ARG INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=models,demo,train,analysis,s3,scale,pandas
RUN pip install --no-cache-dir torch torchvision --index-url ${INDEX}
COPY . /src
RUN pip install --no-cache-dir "/src[${EXTRAS}]" && rm -rf /src
WORKDIR /work
ENTRYPOINT ["sparring"]
