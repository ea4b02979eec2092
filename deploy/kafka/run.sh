#!/bin/sh
# Formats a broker's folder if it is new, and becomes the broker: the same for docker-compose.yml
# and for `sealtrail local up --real`.
#
#   BROKER_ID, _VOTERS, _LISTENERS, _ADVERTISED, _REPLICAS, _MIN_INSYNC    see server.properties
#   BROKER_DATA        folder of its own
#   BROKER_CLUSTER     id of the cluster, the same for all
#   BROKER_SECURITY    plain or secure: which of the two files counts
#   BROKER_FORMAT      more arguments for the formatter (SCRAM users), space separated
#   BROKER_MEMORY_MB   heap; KAFKA_LIBS: folder of jars; JAVA: the program
set -eu

here=$(cd "$(dirname "$0")" && pwd)
java=${JAVA:-java}
libs=${KAFKA_LIBS:-/opt/kafka/libs}
config=$BROKER_DATA/server.properties
logging=-Dlog4j2.configurationFile=$here/log4j2.properties

# Native libraries are unpacked there: in the system's folder they would stay after a SIGKILL.
mkdir -p "$BROKER_DATA/tmp"
rm -rf "$BROKER_DATA"/tmp/*
cat "$here/server.properties" "$here/$BROKER_SECURITY.properties" >"$config"

if [ ! -e "$BROKER_DATA/log/meta.properties" ]; then
    # shellcheck disable=SC2086 - several arguments are wanted
    "$java" -XX:-UsePerfData -XX:TieredStopAtLevel=1 "$logging" -Djava.io.tmpdir="$BROKER_DATA/tmp" \
        -cp "$libs/*" kafka.tools.StorageTool format --ignore-formatted \
        --cluster-id "$BROKER_CLUSTER" --config "$config" ${BROKER_FORMAT:-}
fi

exec "$java" -Xmx"${BROKER_MEMORY_MB:-512}"m -XX:+UseG1GC -XX:-UsePerfData -XX:+ExitOnOutOfMemoryError \
    "$logging" -Djava.io.tmpdir="$BROKER_DATA/tmp" -cp "$libs/*" kafka.Kafka "$config"
