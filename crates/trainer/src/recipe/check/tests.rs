use super::*;

#[test]
fn the_default_recipe_passes_and_survives_a_round_trip() {
    let recipe = Recipe::default();
    recipe.check().unwrap();
    assert_eq!(Recipe::parse(&recipe.to_toml().unwrap()).unwrap(), recipe);
    assert_eq!(Recipe::parse("").unwrap(), recipe);
}

#[test]
fn unknown_keys_are_refused_by_name() {
    let error = Recipe::parse("[pretrain]\ntemprature = 0.1\n")
        .unwrap_err()
        .to_string();
    assert!(error.contains("temprature"), "{error}");
    let error = Recipe::parse("[pretrain.optimizer]\nlearning_rate = 0.1\n")
        .unwrap_err()
        .to_string();
    assert!(error.contains("learning_rate"), "{error}");
}

#[test]
fn every_range_is_refused_with_field_value_and_remedy() {
    for (field, value) in [
        ("budget_minutes", "-1.0"),
        ("data.train_limit", "0"),
        ("data.prefetch", "0"),
        ("model.width", "0.0"),
        ("model.width", "nan"),
        ("model.upsample", "4"),
        ("augment.views", "0"),
        ("arms.finetuned", "true"),
        ("supervised.epochs", "0"),
        ("supervised.batch_size", "1"),
        ("supervised.accumulation", "3"),
        ("supervised.clip", "0.0"),
        ("supervised.ema", "1.0"),
        ("supervised.label_smoothing", "1.0"),
        ("supervised.dropout", "1.0"),
        ("probe.epochs", "0"),
        ("pretrain.temperature", "0.0"),
        ("pretrain.temperature", "inf"),
        ("pretrain.projection.dim", "0"),
        ("pretrain.per_class", "7"),
        ("pretrain.label_smoothing", "0.1"),
        ("pretrain.optimizer.lr", "-0.1"),
        ("pretrain.optimizer.momentum", "1.0"),
        ("pretrain.optimizer.betas", "[0.9, 0.99]"),
        ("pretrain.schedule.warmup_epochs", "-1.0"),
        ("pretrain.schedule.final_factor", "2.0"),
        ("pretrain.schedule.gamma", "0.5"),
        ("evaluate.knn_temperature", "0.0"),
    ] {
        let mut recipe = Recipe::default();
        if field == "arms.finetuned" {
            recipe.arms.contrastive = false;
        }
        recipe.set(field, value).unwrap();
        let error = recipe.check().unwrap_err().to_string();
        assert!(error.contains(field), "{field} = {value}: {error}");
    }
}

#[test]
fn a_cycle_rises_by_itself_and_a_projection_is_normed_where_it_can_be() {
    let after = |fields: &[(&str, &str)]| {
        let mut recipe = Recipe::default();
        for (field, value) in fields {
            recipe.set(field, value).unwrap();
        }
        recipe.check().map(drop).map_err(|e| e.to_string())
    };
    let (kind, warm) = ("pretrain.schedule.kind", "pretrain.schedule.warmup_epochs");
    after(&[(warm, "1.5"), (kind, "linear")]).unwrap();
    after(&[(warm, "1.5"), (kind, "one_cycle")]).unwrap(); // forgotten with the former kind
    let error = after(&[(kind, "one_cycle"), (warm, "1.5")]).unwrap_err();
    assert!(error.contains("warmup_epochs"), "{error}");
    let error = after(&[(kind, "step"), ("pretrain.schedule.final_factor", "0.1")]).unwrap_err();
    assert!(error.contains("final_factor"), "{error}");

    let (kind, norm) = (
        "pretrain.projection.kind",
        "pretrain.projection.output_norm",
    );
    after(&[(kind, "linear"), (norm, "true")]).unwrap();
    let error = after(&[(kind, "linear_relu"), (norm, "true")]).unwrap_err();
    assert!(error.contains(norm) && error.contains("ReLU"), "{error}");
    let inside = "pretrain.projection.batch_norm";
    let error = after(&[(kind, "linear"), (inside, "true")]).unwrap_err();
    assert!(error.contains(inside), "{error}");
}

#[test]
fn nt_xent_asks_for_two_views() {
    let mut recipe = Recipe::default();
    recipe.set("pretrain.loss", "nt_xent").unwrap();
    assert!(
        recipe
            .check()
            .unwrap_err()
            .to_string()
            .contains("augment.views")
    );
    recipe.augment.views = 2;
    recipe.check().unwrap();
    recipe.augment.views = 3;
    recipe.check().unwrap();
    recipe.set("pretrain.loss", "barlow_twins").unwrap();
    let error = recipe.check().unwrap_err().to_string();
    assert!(error.contains("exactly 2 views"), "{error}");
}

#[test]
fn miners_memory_and_proxies_rate_go_with_the_losses_that_have_use_for_them() {
    let with = |loss: &str, fields: &[(&str, &str)]| {
        let mut recipe = Recipe::default();
        recipe.augment.views = 2;
        recipe.set("pretrain.loss", loss).unwrap();
        for (field, value) in fields {
            recipe.set(field, value).unwrap();
        }
        let text = recipe.to_toml().unwrap();
        assert_eq!(Recipe::parse(&text).unwrap(), recipe, "{text}");
        recipe.check().map(drop).map_err(|e| e.to_string())
    };
    let (miner, memory, rate) = ("pretrain.miner", "pretrain.memory", "pretrain.loss_lr");
    let queue = "{ name = \"info_nce\", in_batch = false }";
    for (loss, fields) in [
        ("triplet", vec![(miner, "semi_hard"), (memory, "4096")]),
        (
            "multi_similarity",
            vec![(miner, "{ name = \"multi_similarity\", epsilon = 0.2 }")],
        ),
        ("nca", vec![(miner, "distance_weighted"), (miner, "none")]),
        ("supcon_in", vec![(memory, "1024")]),
        (queue, vec![(memory, "4096")]),
        ("proxy_anchor", vec![(rate, "0.5")]),
        ("sigmoid", vec![(rate, "0.01")]),
    ] {
        with(loss, &fields).unwrap();
    }
    for (loss, fields, words) in [
        ("npairs", vec![(miner, "hard")], [miner, "not over pairs"]),
        (
            "arcface",
            vec![(memory, "64")],
            [memory, "no former batches"],
        ),
        (
            "lifted_structure",
            vec![(memory, "64")],
            [memory, "no former batches"],
        ),
        ("supcon_out", vec![(memory, "0")], [memory, "1 to 16777216"]),
        (queue, vec![], [memory, "nothing repels"]),
        (
            "triplet",
            vec![(rate, "0.5")],
            [rate, "no parameters of its own"],
        ),
        ("arcface", vec![(rate, "0.0")], [rate, "above 0"]),
    ] {
        let error = with(loss, &fields).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    let mut recipe = Recipe::default();
    let error = recipe.set(miner, "easy").unwrap_err().to_string();
    assert!(error.contains(miner) && error.contains("easy"), "{error}");
}

#[test]
fn every_loss_is_taken_by_name_and_its_options_are_checked() {
    let mut recipe = Recipe::default();
    recipe.augment.views = 2;
    recipe.set("pretrain.temperature", "0.2").unwrap();
    for name in contrastive_loss::Loss::names() {
        recipe.set("pretrain.loss", name).unwrap();
        let checked = recipe.check().unwrap();
        assert_eq!(checked.pretrain.loss().name(), name);
        assert_eq!(Recipe::parse(&recipe.to_toml().unwrap()).unwrap(), recipe);
    }
    // The last one has no temperature, nor takes one.
    assert_eq!(recipe.pretrain.temperature, None);
    recipe.pretrain.temperature = Some(0.1);
    let error = recipe.check().unwrap_err().to_string();
    assert!(
        error.contains("pretrain.temperature") && error.contains("divides by no"),
        "{error}"
    );
    recipe.pretrain.temperature = None;
    recipe.set("pretrain.loss.margin", "0.3").unwrap();
    recipe
        .set(
            "pretrain.loss",
            "{ name = \"triplet\", mining = \"semi_hard\" }",
        )
        .unwrap();
    recipe.set("pretrain.loss.margin", "0.5").unwrap();
    recipe.check().unwrap();
    for (value, word) in [
        ("{ name = \"triplet\", margin = -1.0 }", "margin"),
        ("{ name = \"triplet\", tau = 1.0 }", "tau"),
        ("{ name = \"circle\", gamma = 0.0 }", "gamma"),
        ("{ name = \"info_nce\", temperature = 0.0 }", "temperature"),
    ] {
        let error = recipe.set("pretrain.loss", value).unwrap_err().to_string();
        assert!(
            error.contains("pretrain.loss") && error.contains(word),
            "{error}"
        );
    }
}
