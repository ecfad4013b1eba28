"""Learning rate schedules of PyTorch, beside the optimizer or attached to it."""

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from framework_parity.common.core.errors import ParityError


def configured(given):
    """The optimizer, and what is called at the end of an epoch.

    Args:
        given: what ``configure_optimizers`` gave, as Lightning takes it: an optimizer;
            ``(optimizer, scheduler)``, whose schedule goes on after each epoch; or
            ``{"optimizer": …, "lr_scheduler": {"scheduler": …, "interval": "step"}}``.
    """
    if isinstance(given, dict):
        given = given["optimizer"], given.get("lr_scheduler")
    if not isinstance(given, tuple):
        return given, _nothing
    optimizer, scheduler = (part[0] if isinstance(part, list) else part for part in given)
    interval = "epoch"
    if isinstance(scheduler, dict):
        interval, scheduler = scheduler.get("interval", "epoch"), scheduler["scheduler"]
    if scheduler is None:
        return optimizer, _nothing
    if not isinstance(scheduler, LRScheduler) or isinstance(scheduler, ReduceLROnPlateau):
        raise ParityError(
            "configure_optimizers",
            "a schedule that the number of the step or epoch decides (torch.optim.lr_scheduler)",
            type(scheduler).__name__,
            "give another one",
        )
    if interval == "step":
        optimizer.register_step_post_hook(lambda *_: scheduler.step())
        return optimizer, _nothing
    return optimizer, scheduler.step


def rates(optimizer, end_epoch, num_steps, steps_per_epoch):
    """The learning rate of each step of an optimizer that made none yet, and of the next one.

    It makes so many steps without gradients: nothing moves but the schedules.
    """
    found = [_rate(optimizer)]
    if end_epoch is _nothing and not _moving(optimizer):
        return found * (num_steps + 1)
    optimizer.zero_grad()
    for done in range(1, num_steps + 1):
        optimizer.step()
        if done % steps_per_epoch == 0:
            end_epoch()
        found.append(_rate(optimizer))
    return found


def _rate(optimizer):
    return float(optimizer.param_groups[0]["lr"])


def _moving(optimizer):
    """Whether a step of an optimizer may do more than update parameters."""
    hooks = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    return any(vars(optimizer).get(name) for name in hooks)


def _nothing():
    """What is to be done at the end of an epoch if there is no schedule of epochs."""
