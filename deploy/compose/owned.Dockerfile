# An image with a folder for data that any user of group 0 may write: a new volume is made like the
# folder that it is mounted on, and in most images that is root's.
ARG BASE
FROM ${BASE}
ARG FOLDER
COPY --chown=0:0 --chmod=0770 empty ${FOLDER}
