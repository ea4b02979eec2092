"""Apache Kafka and Apicurio Registry as processes of this machine (docs/real-servers.md)."""
