"""What a worker says beside its rows: findings, alerts, metrics, health, logs."""
