"""What a recipe will do, before it does it: `contralign train RECIPE --dry-run`.

`sources` looks at the data files, `tokens` says how long a record is, `stages` puts both and the model's shapes
together with the cost model of `contralign.bench.plan`, `render` prints it.
"""
