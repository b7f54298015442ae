"""History: what a server knows after many campaigns, copied from one that it has really run."""

import asyncio

import asyncpg

TABLES = ("flow_run", "flow_run_state", "task_run", "task_run_state", "log", "artifact")
# Columns that name a row of these tables; each copy names the copied row.
NAMES = {"id", "flow_run_id", "task_run_id", "state_id"}
TIMES = {"timestamp with time zone"}


def multiply(address: str, campaigns: int) -> None:
    """Copy every run so often that there are so many, each an hour older than the last."""
    asyncio.run(_multiply(address, campaigns))


async def _multiply(address: str, campaigns: int) -> None:
    connection = await asyncpg.connect(address)
    try:
        async with connection.transaction():
            # States and runs name one another.
            await connection.execute("SET session_replication_role = replica")
            for table in TABLES:
                await connection.execute(await _copy(connection, table), campaigns - 1)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()


async def _copy(connection: asyncpg.Connection, table: str) -> str:
    rows = await connection.fetch(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_name = $1 AND table_schema = 'public' AND is_generated = 'NEVER'",
        table,
    )
    columns = {row["column_name"]: row["data_type"] for row in rows}
    values = [_value(name, kind) for name, kind in columns.items()]
    names = ", ".join(f'"{name}"' for name in columns)
    return (
        f"INSERT INTO {table} ({names}) SELECT {', '.join(values)} "
        f"FROM {table} AS old, generate_series(1, $1::int) AS n"
    )


def _value(name: str, kind: str) -> str:
    column = f'old."{name}"'
    if name in NAMES and kind == "uuid":
        return f"md5({column}::text || n)::uuid"
    if kind in TIMES:
        return f"{column} - n * interval '1 hour'"
    # Unique among the runs of a flow, where there is one.
    return f"{column} || '-' || n" if name == "idempotency_key" else column
