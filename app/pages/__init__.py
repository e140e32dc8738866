"""The pages: HTML rendered on the server, one module per page."""

from fastapi import APIRouter

from app.pages import (
    access,
    compare,
    explorer,
    inquiries,
    lab,
    layers,
    loader_bench,
    login,
    loss_bench,
    new_run,
    queue,
    run,
    run_actions,
    runs,
    settings,
    shapes_bench,
    timeline,
    tricks,
)

router = APIRouter(include_in_schema=False)
# new_run before run: /runs/new is no run's name
for module in (
    runs,
    new_run,
    inquiries,
    lab,
    loader_bench,
    shapes_bench,
    explorer,
    run_actions,
    run,
    layers,
    timeline,
    compare,
    queue,
    tricks,
    settings,
    access,
    login,
    loss_bench,
):
    router.include_router(module.router)
