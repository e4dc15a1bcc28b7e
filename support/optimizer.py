"""Adam as NICE needs it, and its learning rate."""

import keras

TRAVEL, FASTEST = 3 * 5.2, 0.1

register = keras.saving.register_keras_serializable(package="nice")


@register
class Adam(keras.optimizers.Adam):
    """Adam with a pace of its own for log_scale.

    Adam moves any weight by about one learning rate a step, and log_scale has
    to travel from 0 to ln(1/0.00577) = 5.2: at 1e-3 that alone takes eleven
    epochs. `scale_pace` multiplies the learning rate of log_scale; 1 is plain
    Adam, as in 2018. How large it should be: `scale_pace` below.
    """

    def __init__(self, *args, scale_pace=10.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale_pace = scale_pace
        self.exclude_from_weight_decay(var_names=["log_scale", "bias"])
        # TensorFlow has the same formula in one kernel, which walks through memory once: a
        # third of the time of Keras's seven operations.
        self._fused = keras.backend.backend() == "tensorflow" and not self.amsgrad

    def build(self, variables):
        super().build(variables)
        self._paces = [self.scale_pace if v.name == "log_scale" else 1.0 for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        pace = self._paces[self._get_variable_index(variable)]
        if not self._fused:
            return super().update_step(gradient, variable, pace * learning_rate)
        if self.weight_decay and self._use_weight_decay(variable):
            # Half the memory traffic of Keras's w -= w · decay · rate.
            variable.assign(variable * (1 - learning_rate * self.weight_decay))
        self._fused_update_step(gradient, variable, pace * learning_rate)

    def _apply_weight_decay(self, variables):
        if not self._fused:  # else done in update_step
            super()._apply_weight_decay(variables)

    def _fused_update_step(self, gradient, variable, learning_rate):
        import tensorflow as tf

        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )

    def get_config(self):
        return {**super().get_config(), "scale_pace": self.scale_pace}


def learning_rate(args, total_steps):
    """The schedule: constant, or a cosine from the learning rate down to 0."""
    if args.schedule == "constant":
        return args.learning_rate
    return keras.optimizers.schedules.CosineDecay(args.learning_rate, total_steps)


def scale_pace(args, total_steps):
    """log_scale's pace: --scale-pace, else 10, or as much as a short run needs.

    In a run its rates must add up to `TRAVEL`, three times the way of 5.2; none may exceed
    `FASTEST`, at which it would overshoot. Without noise there is no such way: nothing holds
    log_scale back, and at ten times the pace it runs off until the loss is no longer finite.
    """
    if args.scale_pace:
        return args.scale_pace
    if not args.noise:
        return 1.0
    mean = args.learning_rate * (1 if args.schedule == "constant" else 0.5)
    return min(max(10.0, TRAVEL / (mean * total_steps)), max(10.0, FASTEST / args.learning_rate))


def adam(args, total_steps):
    """The optimizer that the flags ask for, over so many steps."""
    return Adam(
        learning_rate(args, total_steps),
        epsilon=args.epsilon,
        weight_decay=args.weight_decay or None,
        scale_pace=scale_pace(args, total_steps),
    )
